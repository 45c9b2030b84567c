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
const { tools, brief, all } = session;
const first = mode === "first";
const pin = "2026-07-28";

const info = { name: `eras-ts-${mode}`, version: "1.0.0" };
const options = { capabilities: all ? { elicitation: { form: {}, url: {} }, sampling: {}, roots: {} } : { elicitation: { form: {} } } };
const visited = [];
const asked = [];
let hang = false;
let withdrawn = 0;
const answer = async ({ params }, { signal, mcpReq }) => {
  asked.push(params.message);
  if (hang) {
    await new Promise((resolve) => (signal ?? mcpReq.signal).addEventListener("abort", resolve));
    withdrawn += 1;
  }
  if (params.mode !== "url") return { action: "accept", content: session.answer };
  visited.push(params);
  return { action: "accept" };
};
const sample = async ({ params }) => ({
  model: "test",
  role: "assistant",
  content: { type: "text", text: `words after ${params.messages[0].content.text}` },
});
const roots = async () => ({ roots: [{ uri: "file:///srv/rooms", name: "rooms" }] });
const logs = [];
const updates = [];
let changes = 0;
let client;
let transport;

if (first) {
  const { Client } = await import("@modelcontextprotocol/sdk/client/index.js");
  const types = await import("@modelcontextprotocol/sdk/types.js");
  client = new Client(info, options);
  client.setRequestHandler(types.ElicitRequestSchema, answer);
  if (all) {
    client.setRequestHandler(types.CreateMessageRequestSchema, sample);
    client.setRequestHandler(types.ListRootsRequestSchema, roots);
  }
  client.setNotificationHandler(types.ToolListChangedNotificationSchema, () => void (changes += 1));
  client.setNotificationHandler(types.LoggingMessageNotificationSchema, ({ params }) => void logs.push(params.data.msg ?? params.data));
  client.setNotificationHandler(types.ResourceUpdatedNotificationSchema, ({ params }) => void updates.push(params.uri));
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
  if (all) {
    client.setRequestHandler("sampling/createMessage", sample);
    client.setRequestHandler("roots/list", roots);
  }
  client.setNotificationHandler("notifications/tools/list_changed", () => void (changes += 1));
  client.setNotificationHandler("notifications/message", ({ params }) => void logs.push(params.data.msg ?? params.data));
  client.setNotificationHandler("notifications/resources/updated", ({ params }) => void updates.push(params.uri));
  transport = session.url
    ? new StreamableHTTPClientTransport(new URL(session.url))
    : new StdioClientTransport({ ...session, stderr: "inherit" });
}

const call = async ([name, args], options, more) => {
  const params = { name, arguments: args, ...more };
  const result = await (first ? client.callTool(params, undefined, options) : client.callTool(params, options));
  const text = result.content?.map((part) => part.text ?? "").join("\n");
  if (result.isError) throw new Error(text);
  return text;
};

const report = new Report();
const { says, step } = report;

/** Runs the steps of what bridged pairs support besides the others. */
async function everyFeature(modern, until) {
  const uri = session.resource;
  await step("read", async () => says(JSON.stringify(await client.readResource({ uri })), session.contents));
  await step("prompt", async () => says(JSON.stringify(await client.getPrompt(session.prompt)), session.prompted));
  await step("completion", async () => says(JSON.stringify(await client.complete(session.complete)), session.completed));
  if (tools.sample) await step("sampling", async () => says(await call(tools.sample), "words after"));
  if (tools.roots) await step("roots", async () => says(await call(tools.roots), "file:///srv/rooms"));
  for (const [name, tool] of [["url", tools.url], ["url error", modern && tools.urlError]].filter(([, tool]) => tool)) {
    await step(name, async () => {
      const before = visited.length;
      says(await call(tool), /accept|completed/);
      const params = visited[before];
      // The two eras differ in this member.
      if (!params?.url || Boolean(params.elicitationId) === modern) throw new Error(`visited ${JSON.stringify(params)}`);
    });
  }
  if (tools.twice) {
    await step("twice", async () => {
      const before = asked.length;
      says(await call(tools.twice), "first Ada, then Ada and Ada");
      says(asked.slice(before).sort().join(" "), "And theirs? And yours? Your name?");
    });
  }
  if (!session.unrelated) await step("parallel", async () => {
    const asking = tools.twice ?? tools.ask;
    const answers = await Promise.all([call(asking), call(tools.sample), call(tools.echo), call(asking)]);
    for (const [at, wanted] of ["Ada", "words after", "héllo", "Ada"].entries()) says(answers[at], wanted);
  });
  await step("cancel while asking", async () => {
    const abort = new AbortController();
    const before = asked.length;
    hang = true;
    const called = call(tools.twice ?? tools.ask, { signal: abort.signal }).then(() => "answered", () => "cancelled");
    await until(() => asked.length > before, "question");
    abort.abort("no longer wanted");
    says(await called, "cancelled");
    // The question to a legacy host is a request of its own, which has to be withdrawn.
    if (!modern) await until(() => withdrawn, "cancellation of the question");
    hang = false;
    says(await call(tools.echo), "héllo");
  });
  if (tools.list) await step("structured", async () => says(await call(tools.list), '["a","b"]'));
  if (tools.log) {
    await step("logging", async () => {
      const level = "info";
      if (!modern) await client.setLoggingLevel(level);
      await call(tools.log, undefined, modern ? { _meta: { "io.modelcontextprotocol/logLevel": level } } : {});
      await until(() => logs.includes("a warning"), "log message");
      says(logs.includes("a debug") ? "a message below the level" : "filtered", "filtered");
      if (!modern) return;
      // A request without a level gets no messages.
      logs.length = 0;
      await call(tools.log);
      await sleep(50);
      says(logs.length ? "a message without a level" : "silent", "silent");
    });
  }
  if (tools.touch) {
    await step("updates", async () => {
      const stream = modern ? await client.listen({ resourceSubscriptions: [uri] }) : await client.subscribeResource({ uri });
      await call(tools.touch);
      await until(() => updates.includes(uri), "update");
      await (modern ? stream.close() : client.unsubscribeResource({ uri }));
      if (session.resumes) return; // it sends updates for as long as the session lasts
      await sleep(50);
      updates.length = 0;
      await call(tools.touch);
      await sleep(100);
      says(updates.length ? "an update after the end" : "ended", "ended");
    });
  }
  await step("tasks", async () => {
    const { tasks, extensions } = client.getServerCapabilities();
    says(JSON.stringify({ tasks, extensions }), /^\{("extensions":(?!.*tasks).*)?\}$/);
    const schema = {
      parse: (value) => value,
      safeParse: (data) => ({ success: true, data }),
      "~standard": { version: 1, vendor: "eras", validate: (value) => ({ value }) },
    };
    const asking = (async () => client.request({ method: "tasks/get", params: { taskId: "none" } }, schema))();
    says(await asking.then(() => "answered", ({ code, message }) => `${code} ${message}`), /-32601|not supported|does not support|Method not found/i);
    if (tools.task) says(await call(tools.task).then(() => "answered", ({ message }) => message), /task/);
  });
}
try {
  await client.connect(transport, { timeout: 10_000 });
  report.version = client.getNegotiatedProtocolVersion?.() ?? transport.protocolVersion;
  const modern = report.version === pin;
  const listening = modern && !brief;
  const until = async (condition, what) => {
    for (let wait = 0; !condition() && wait < 100; wait += 1) await sleep(15);
    if (!condition()) throw new Error(`no ${what}`);
  };

  await step("tools", async () => says((await client.listTools()).tools.map(({ name }) => name).join(" "), tools.echo[0]));
  if (!brief) {
    const opened = listening ? client.listen({ toolsListChanged: true }) : Promise.resolve();
    opened.catch(() => {}); // the step `changed` reports it
    await step("text", async () => says(await call(tools.echo), "héllo"));
    if (tools.region) await step("region", async () => says(await call(tools.region), "in Zürich"));
    await step("ask", async () => says(await call(tools.ask), "Ada"));
    await step("progress", async () => {
      // The SDK drops progress that it reads together with the response, as it may on a busy machine.
      for (let tries = 1; ; tries += 1) {
        const seen = [];
        const text = await call(tools.steps, { onprogress: ({ progress }) => seen.push(progress) });
        await sleep(20); // the SDK delivers a notification one tick after a response
        if (seen.length || tries === 3) return says(`${text} ${seen.join(",")}`, /3[ .]/, all && session.progressPauses ? / \d/ : /1,2/);
      }
    });
    await step("resources", async () => says(JSON.stringify(await client.listResources()), "uri"));
    await step("prompts", async () => says(JSON.stringify(await client.listPrompts()), "name"));
    if (tools.change) {
      await step("changed", async () => {
        await opened;
        await call(tools.change);
        await until(() => changes, "list_changed");
      });
    }
    if (all) await everyFeature(modern, until);
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
