// A session of a TypeScript SDK client, version 1 or 2.
//
//   node host-ts.mjs <first|legacy|auto|pinned> <session as JSON>
//
// The session contains the command or the URL, and the tools. Prints the result of
// each step as JSON.

import { setTimeout as sleep } from "node:timers/promises";
import { Report } from "./report.mjs";

const [mode, text] = process.argv.slice(2);
const session = JSON.parse(text);
const { tools, brief } = session;
const first = mode === "first";
const pin = "2026-07-28";

const info = { name: `eras-ts-${mode}`, version: "1.0.0" };
const options = { capabilities: { elicitation: { form: {} } } };
const answer = async () => ({ action: "accept", content: session.answer });
let changes = 0;
let client;
let transport;

if (first) {
  const { Client } = await import("@modelcontextprotocol/sdk/client/index.js");
  const types = await import("@modelcontextprotocol/sdk/types.js");
  client = new Client(info, options);
  client.setRequestHandler(types.ElicitRequestSchema, answer);
  client.setNotificationHandler(types.ToolListChangedNotificationSchema, () => void (changes += 1));
  if (session.url) {
    const { StreamableHTTPClientTransport } = await import("@modelcontextprotocol/sdk/client/streamableHttp.js");
    transport = new StreamableHTTPClientTransport(new URL(session.url));
  } else {
    const { StdioClientTransport } = await import("@modelcontextprotocol/sdk/client/stdio.js");
    transport = new StdioClientTransport({ ...session, stderr: "inherit" });
  }
} else {
  const { Client, StreamableHTTPClientTransport } = await import("@modelcontextprotocol/client");
  const { StdioClientTransport } = await import("@modelcontextprotocol/client/stdio");
  client = new Client(info, { ...options, versionNegotiation: { mode: mode === "pinned" ? { pin } : mode, probe: { timeoutMs: 10_000 } } });
  client.setRequestHandler("elicitation/create", answer);
  client.setNotificationHandler("notifications/tools/list_changed", () => void (changes += 1));
  transport = session.url
    ? new StreamableHTTPClientTransport(new URL(session.url))
    : new StdioClientTransport({ ...session, stderr: "inherit" });
}

const call = async ([name, args], options) => {
  const asked = { name, arguments: args };
  const result = await (first ? client.callTool(asked, undefined, options) : client.callTool(asked, options));
  const text = result.content?.map((part) => part.text ?? "").join("\n");
  if (result.isError) throw new Error(text);
  return text;
};

const report = new Report();
const { says, step } = report;
try {
  await client.connect(transport, { timeout: 10_000 });
  report.version = client.getNegotiatedProtocolVersion?.() ?? transport.protocolVersion;
  const listening = report.version === pin && !brief;

  await step("tools", async () => says((await client.listTools()).tools.map(({ name }) => name).join(" "), tools.echo[0]));
  if (!brief) {
    const opened = listening ? client.listen({ toolsListChanged: true }) : Promise.resolve();
    opened.catch(() => {}); // the step `changed` reports it
    await step("text", async () => says(await call(tools.echo), "héllo"));
    if (tools.region) await step("region", async () => says(await call(tools.region), "in Zürich"));
    await step("ask", async () => says(await call(tools.ask), "Ada"));
    await step("progress", async () => {
      const seen = [];
      const text = await call(tools.steps, { onprogress: ({ progress }) => seen.push(progress) });
      await sleep(20); // the SDK delivers a notification one tick after a response
      says(`${text} ${seen.join(",")}`, "3 ", /1,2/);
    });
    await step("resources", async () => says(JSON.stringify(await client.listResources()), "uri"));
    await step("prompts", async () => says(JSON.stringify(await client.listPrompts()), "name"));
    if (tools.change) {
      await step("changed", async () => {
        await opened;
        await call(tools.change);
        for (let wait = 0; !changes && wait < 100; wait += 1) await sleep(15);
        if (!changes) throw new Error("no list_changed");
      });
    }
    await step("cancel", async () => {
      const abort = new AbortController();
      const called = call(tools.wait, { signal: abort.signal }).then(() => "answered", () => "cancelled");
      await sleep(200);
      abort.abort("no longer wanted");
      says(await called, "cancelled");
      await sleep(200);
      says(await call(tools.echo), "héllo");
    });
  }
} catch (error) {
  report.failed(error);
}
await client.close().catch(() => {});
report.print();
process.exit(0);
