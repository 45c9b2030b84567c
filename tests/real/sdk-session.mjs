// One long MCP session through the adapter, held by the official TypeScript SDK client.
//
//   node sdk-session.mjs <adapter> <server url> [adapter flags...]
//
// Prints one line per check (`ok ...` / `FAIL ...`) and exits 1 if any failed.

import { setTimeout as sleep } from "node:timers/promises";
import { isDeepStrictEqual } from "node:util";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import {
  CreateMessageRequestSchema,
  ElicitRequestSchema,
  EmptyResultSchema,
  ListRootsRequestSchema,
  LoggingMessageNotificationSchema,
  ResourceUpdatedNotificationSchema,
} from "@modelcontextprotocol/sdk/types.js";

const [adapter, url, ...flags] = process.argv.slice(2);
if (!adapter || !url) {
  console.error("usage: node sdk-session.mjs <adapter> <server url> [adapter flags...]");
  process.exit(2);
}
const label = process.env.CHECK_LABEL ?? "sdk";

let failed = 0;
let stderrText = "";

function must(condition, what, seen) {
  if (!condition) {
    throw new Error(seen === undefined ? what : `${what}; saw ${JSON.stringify(seen)?.slice(0, 600)}`);
  }
}

async function check(name, body, limitMs = 15_000) {
  const began = Date.now();
  let timer;
  try {
    const limit = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error(`no end after ${limitMs} ms`)), limitMs);
    });
    const note = await Promise.race([body(), limit]);
    console.log(`ok ${label}: ${name}${note ? ` (${note})` : ""} ${Date.now() - began} ms`);
    return true;
  } catch (error) {
    failed += 1;
    const text = error?.message ?? String(error);
    console.log(`FAIL ${label}: ${name}: ${text.replaceAll("\n", " ")}`);
    return false;
  }
}

async function until(condition, what, limitMs = 8_000) {
  const deadline = Date.now() + limitMs;
  while (!condition()) {
    if (Date.now() > deadline) throw new Error(`not seen within ${limitMs} ms: ${what}`);
    await sleep(10);
  }
}

const textOf = (result) => result.content.map((c) => (c.type === "text" ? c.text : "")).join("\n");

// The client, with what it offers to the server.

const client = new Client(
  { name: "sdk-session", version: "1.0.0" },
  { capabilities: { sampling: {}, elicitation: { form: {} }, roots: { listChanged: true } } },
);

let roots = [{ uri: "file:///srv/first", name: "first" }];
let rootsAsked = 0;
client.setRequestHandler(ListRootsRequestSchema, async () => {
  rootsAsked += 1;
  return { roots };
});

const sampled = [];
client.setRequestHandler(CreateMessageRequestSchema, async (request) => {
  sampled.push(request.params);
  await sleep(150); // a model takes its time; other traffic must not be held up
  return {
    model: "model-of-the-check",
    role: "assistant",
    stopReason: "endTurn",
    content: { type: "text", text: "sampled answer: zwölf Boxkämpfer" },
  };
});

const elicited = [];
client.setRequestHandler(ElicitRequestSchema, async (request) => {
  elicited.push(request.params);
  return { action: "accept", content: { name: "Ada Lovelace", check: true, integer: 7 } };
});

const logs = [];
client.setNotificationHandler(LoggingMessageNotificationSchema, (n) => void logs.push(n.params));
const updated = [];
client.setNotificationHandler(ResourceUpdatedNotificationSchema, (n) => void updated.push(n.params.uri));

const clientErrors = [];
client.onerror = (error) => clientErrors.push(error.message);

const transport = new StdioClientTransport({
  command: adapter,
  args: [url, ...flags],
  stderr: "pipe",
  env: process.env.MCP_REMOTE_CONFIG_DIR
    ? { MCP_REMOTE_CONFIG_DIR: process.env.MCP_REMOTE_CONFIG_DIR }
    : {},
});
transport.stderr.on("data", (chunk) => (stderrText += chunk));

// The session.

const wire = []; // every message from the adapter after initialize
let exit; // { code, signal, at }
const connected = await check(
  "initialize",
  async () => {
    await client.connect(transport);
    const deliver = transport.onmessage;
    transport.onmessage = (message, extra) => {
      wire.push({ message, at: Date.now() });
      deliver(message, extra);
    };
    const child = transport._process; // the public face has no exit status
    child?.once("exit", (code, signal) => (exit = { code, signal, at: Date.now() }));
    const server = client.getServerVersion();
    must(server?.name === "mcp-servers/everything", "the reference server's name", server);
    must(client.getServerCapabilities()?.resources?.subscribe === true, "capabilities come back");
    must((client.getInstructions() ?? "").length > 100, "instructions come back");
  },
  20_000,
);

if (connected) {
  // No pause on purpose. The server adds these three tools while it handles
  // `notifications/initialized`, so an adapter that lets a later message
  // overtake the notification shows a shorter list here.
  await check("tools/list right after initialized: the notification was not overtaken", async () => {
    const { tools } = await client.listTools();
    const names = tools.map((t) => t.name);
    for (const name of ["echo", "get-roots-list", "trigger-sampling-request", "trigger-elicitation-request"]) {
      must(names.includes(name), `tool ${name}`, names);
    }
    return `${tools.length} tools`;
  });

  await check("ping", async () => {
    must(isDeepStrictEqual(await client.ping(), {}), "an empty result");
  });

  await check("echo of awkward text", async () => {
    const message = 'quote " backslash \\ newline \n tab \t nul \u0000 sep \u2028\u2029 é 漢字 🦀 \ud83d\udc69\u200d\ud83d\udd2c';
    const result = await client.callTool({ name: "echo", arguments: { message } });
    must(textOf(result) === `Echo: ${message}`, "the same text", textOf(result));
  });

  await check("echo of 1 MiB", async () => {
    const message = "0123456789abcdé ".repeat(1 << 16);
    const result = await client.callTool({ name: "echo", arguments: { message } });
    must(textOf(result) === `Echo: ${message}`, "the same text");
  });

  await check("40 calls at once, each with its own answer", async () => {
    const answers = await Promise.all(
      Array.from({ length: 40 }, (_, i) =>
        client.callTool({ name: "get-sum", arguments: { a: i, b: 0.5 } }),
      ),
    );
    answers.forEach((answer, i) => {
      must(textOf(answer) === `The sum of ${i} and 0.5 is ${i + 0.5}.`, `answer ${i}`, textOf(answer));
    });
  });

  await check("errors keep their code", async () => {
    const unknown = await client.request({ method: "no/such-method" }, EmptyResultSchema).then(
      () => undefined,
      (error) => error,
    );
    must(unknown?.code === -32601, "-32601 for an unknown method", unknown && { code: unknown.code, message: unknown.message });
    const missing = await client.readResource({ uri: "demo://resource/no/such" }).then(
      () => undefined,
      (error) => error,
    );
    must([-32602, -32002].includes(missing?.code), "-32602 or -32002 for an unknown resource", missing && { code: missing.code, message: missing.message });
    const tool = await client.callTool({ name: "get-sum", arguments: { a: "one" } });
    must(tool.isError === true, "isError for bad arguments", tool);
  });

  // Judged on the wire, not by the calls of `onprogress`: the SDK hands a
  // notification on a tick later than a response, so when the last progress and
  // the result come in one read it drops that progress ("unknown token").
  await check("progress comes in order and as it happens", async () => {
    const from = wire.length;
    const result = await client.callTool(
      { name: "trigger-long-running-operation", arguments: { duration: 1.5, steps: 6 } },
      undefined,
      { onprogress: () => {} },
    );
    must(textOf(result).includes("Steps: 6"), "the result", textOf(result));
    const seen = wire.slice(from);
    const end = seen.findIndex(({ message }) => message.result?.content && textOf(message.result) === textOf(result));
    const steps = seen.slice(0, end).filter(({ message }) => message.method === "notifications/progress");
    const params = steps.map(({ message }) => message.params);
    must(isDeepStrictEqual(params.map((p) => p.progress), [1, 2, 3, 4, 5, 6]), "progress 1 to 6 in order, before the result", params);
    must(params.every((p) => p.total === 6), "total 6", params);
    must(params.every((p) => p.progressToken === seen[end].message.id), "the token the client chose", params);
    const lead = seen[end].at - steps[0].at;
    must(lead > 700, "the first progress well before the result", lead);
    return `first ${lead} ms before the result`;
  });

  await check("a cancelled call leaves the session whole", async () => {
    const abort = new AbortController();
    const call = client
      .callTool({ name: "trigger-long-running-operation", arguments: { duration: 1, steps: 1 } }, undefined, { signal: abort.signal })
      .then(() => "answered", () => "cancelled");
    await sleep(150);
    abort.abort("no longer wanted");
    must((await call) === "cancelled", "the call ends as cancelled");
    const result = await client.callTool({ name: "echo", arguments: { message: "still here" } });
    must(textOf(result) === "Echo: still here", "the next call works", textOf(result));
  });

  await check("sampling: the server's request reaches the client and its answer goes back", async () => {
    const call = client.callTool({
      name: "trigger-sampling-request",
      arguments: { prompt: "what is twelve boxers?", maxTokens: 33 },
    });
    const meanwhile = client.callTool({ name: "echo", arguments: { message: "meanwhile" } });
    must(textOf(await meanwhile) === "Echo: meanwhile", "another call is answered meanwhile");
    const text = textOf(await call);
    must(sampled.length === 1, "one sampling/createMessage", sampled);
    must(sampled[0].maxTokens === 33, "maxTokens", sampled[0]);
    must(sampled[0].messages[0].content.text.includes("what is twelve boxers?"), "the prompt", sampled[0]);
    must(text.includes("sampled answer: zwölf Boxkämpfer") && text.includes("model-of-the-check"), "the answer in the tool's result", text);
  });

  await check("elicitation: asked and answered", async () => {
    const text = textOf(await client.callTool({ name: "trigger-elicitation-request", arguments: {} }));
    must(elicited.length === 1 && elicited[0].requestedSchema?.properties?.name, "one elicitation/create with its schema", elicited);
    must(text.includes("- Name: Ada Lovelace") && text.includes("- Favorite Integer: 7"), "the answer in the tool's result", text);
  });

  // The server asks for the roots by itself 350 ms after `initialized`, on the
  // stream that belongs to no request: an adapter without that stream fails here.
  await check("roots: asked by the server, and again after list_changed", async () => {
    await until(() => rootsAsked >= 1, "roots/list from the server");
    const first = textOf(await client.callTool({ name: "get-roots-list", arguments: {} }));
    must(first.includes("file:///srv/first"), "the root in the tool's result", first);
    const before = rootsAsked;
    roots = [...roots, { uri: "file:///srv/second", name: "second" }];
    await client.sendRootsListChanged();
    await until(() => rootsAsked > before, "roots/list after list_changed");
    let text = "";
    const deadline = Date.now() + 4_000;
    while (!text.includes("file:///srv/second") && Date.now() < deadline) {
      text = textOf(await client.callTool({ name: "get-roots-list", arguments: {} }));
    }
    must(text.includes("file:///srv/second"), "the second root in the tool's result", text);
  });

  await check("resources and prompts", async () => {
    const { resources } = await client.listResources();
    must(resources.length >= 5, "at least five resources", resources);
    const read = await client.readResource({ uri: resources[0].uri });
    must(read.contents[0].uri === resources[0].uri && read.contents[0].text.length > 50, "the text of the first", read);
    const blob = await client.readResource({ uri: "demo://resource/dynamic/blob/3" });
    must(Buffer.from(blob.contents[0].blob, "base64").toString().startsWith("Resource 3:"), "a blob", blob);
    const prompt = await client.getPrompt({ name: "args-prompt", arguments: { city: "Oslo" } });
    must(prompt.messages[0].content.text === "What's weather in Oslo?", "a prompt", prompt);
    const done = await client.complete({
      ref: { type: "ref/prompt", name: "completable-prompt" },
      argument: { name: "department", value: "S" },
    });
    must(isDeepStrictEqual(done.completion.values, ["Sales", "Support"]), "a completion", done);
  });

  const uri = "demo://resource/dynamic/text/11";

  await check("logging/setLevel is obeyed, log messages arrive", async () => {
    await client.setLoggingLevel("debug");
    await client.subscribeResource({ uri });
    await until(() => logs.some((l) => String(l.data).includes(uri)), "the log line about the subscription");
    const before = logs.length;
    await client.callTool({ name: "toggle-simulated-logging", arguments: {} });
    await until(() => logs.length > before, "a simulated log message");
    await client.callTool({ name: "toggle-simulated-logging", arguments: {} });
    await client.setLoggingLevel("emergency");
    const quiet = "demo://resource/dynamic/text/12";
    await client.subscribeResource({ uri: quiet });
    await client.unsubscribeResource({ uri: quiet });
    await sleep(200);
    must(!logs.some((l) => String(l.data).includes(quiet)), "no info line at level emergency", logs);
  });

  await check("resources/subscribe: updates arrive", async () => {
    await client.callTool({ name: "toggle-subscriber-updates", arguments: {} });
    await until(() => updated.includes(uri), "notifications/resources/updated");
    await client.callTool({ name: "toggle-subscriber-updates", arguments: {} });
    await client.unsubscribeResource({ uri });
    must(updated.every((u) => u === uri), "only the subscribed resource", updated);
  });

  await check("nothing on stdout but JSON-RPC the client understands", async () => {
    const errors = clientErrors.filter((e) => !e.includes("progress notification for an unknown token"));
    must(errors.length === 0, "no client error", errors);
  });

  // The SDK ends stdin and only sends a signal after 2 s.
  await check("the adapter exits within 2 s of the end of stdin", async () => {
    const pid = transport.pid;
    const began = Date.now();
    await client.close();
    await until(() => exit !== undefined, "the exit of the child", 3_000);
    must(exit.signal === null, "an exit of its own, not by signal", exit);
    must(exit.at - began < 2_000, "within 2 s", exit.at - began);
    let alive = true;
    try {
      process.kill(pid, 0);
    } catch {
      alive = false;
    }
    must(!alive, "no process left");
    return `exit ${exit.code} after ${exit.at - began} ms`;
  });
} else {
  await client.close().catch(() => {});
}

if (failed > 0) {
  console.log(`  the adapter's stderr, its end:\n${stderrText.slice(-3_000).replace(/^/gm, "    | ")}`);
}
process.exit(failed > 0 ? 1 : 0);
