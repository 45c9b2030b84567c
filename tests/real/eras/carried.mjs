// What the adapter does for 2026-07-28 messages besides forwarding them: headers
// derived from a tool's schema, subscriptions that survive a lost stream, the server's
// era kept on disk, and what real hosts of bridged pairs do not do on demand. This
// script plays the host; the servers are built with the TypeScript SDK.
//
//   node carried.mjs <adapter>
//
// Prints one line per check (`ok ...` / `FAIL ...`) and exits 1 if any failed.

import { once } from "node:events";
import { mkdtemp } from "node:fs/promises";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { check, equals, failed, must, until } from "../checks.mjs";
import { ByHand } from "../programs.mjs";
import { BROKEN, SERVERS, end, folder, startServer } from "./processes.mjs";
import { line, rpc, startWire } from "./wire.mjs";

const [adapter] = process.argv.slice(2);
if (!adapter) {
  console.error("usage: node carried.mjs <adapter>");
  process.exit(2);
}

const MODERN = "2026-07-28";
const LEGACY = "2025-11-25";
/** The name of a host that is known to fall back to `initialize`. */
const clientInfo = { name: "claude-code", version: "2.1.330" };
const _meta = {
  "io.modelcontextprotocol/protocolVersion": MODERN,
  "io.modelcontextprotocol/clientInfo": clientInfo,
  "io.modelcontextprotocol/clientCapabilities": {},
};

class Host extends ByHand {
  ask(id, method, params = {}) {
    this.send({ id, method, params: { ...params, _meta: { ...params._meta, ..._meta } } });
    return this.answer(id);
  }

  call = (id, name, args = {}) => this.ask(id, "tools/call", { name, arguments: args });

  handshake(id) {
    this.send({ id, method: "initialize", params: { protocolVersion: LEGACY, capabilities: {}, clientInfo } });
    return this.answer(id);
  }

  heard = (method) => this.messages.filter((message) => message.method === method);

  /** Ends the input; `{ code, took }`. */
  async leave() {
    const began = performance.now();
    const exit = once(this.child, "exit");
    this.child.stdin.end();
    const [code] = await exit;
    return { code, took: Math.round(performance.now() - began) };
  }
}

const urls = {};
const url = async (server) => (urls[server.command.join(" ")] ??= await startServer(server));
const { "TS 1": TS1, "TS 2": TS2, "TS 2 reject": STRICT } = SERVERS;

/** Runs `body` with a proxy in front of `server`; all hosts that it starts share one store. */
async function scene(name, server, body) {
  const wire = await startWire(await url(server));
  const store = await mkdtemp(path.join(folder, "store-"));
  const hosts = [];
  const start = (...flags) => {
    const host = new Host([adapter, wire.url, ...flags], { MCP_REMOTE_CONFIG_DIR: store });
    hosts.push(host);
    return host;
  };
  const told = () =>
    [...wire.exchanges.map(line), ...hosts.flatMap((host) => [...host.messages.map((m) => JSON.stringify(m).slice(0, 400)), host.stderr])].join("\n");
  await check(name, () => body({ wire, start, asked: (method) => wire.exchanges.filter((e) => rpc(e).method === method) }), { told });
  for (const host of hosts) await host.end();
  await wire.stop();
}

const text = ({ result, error }) => result?.content?.[0]?.text ?? JSON.stringify(error ?? result);
const methods = (exchanges) => exchanges.map((exchange) => rpc(exchange).method ?? exchange.method);
const listen = (host, id) => {
  host.send({ id, method: "subscriptions/listen", params: { _meta, notifications: { toolsListChanged: true } } });
  return until(() => host.heard("notifications/subscriptions/acknowledged").length, "the acknowledgement");
};

await scene("a call of a tool that was never listed succeeds, although its argument belongs in a header", TS2, async ({ wire, start }) => {
  const host = start();
  equals(text(await host.call(1, "region", { region: "Zürich" })), "in Zürich", "the answer");
  // The first asks for the era, because the host has not.
  must(wire.exchanges.length <= 4, "at most four requests", wire.exchanges.map(line));
  return methods(wire.exchanges).join(", ");
});

await scene("--header does not override the transport's headers", TS2, async ({ wire, start }) => {
  const host = start("--header", "Mcp-Method: ping", "--header", "MCP-Protocol-Version: 2025-03-26", "--header", "Mcp-Name: x", "--header", "X-Own: 1");
  equals(text(await host.call(1, "echo", { text: "a" })), "echo a", "the answer");
  const { headers } = wire.exchanges.at(-1);
  equals(
    [headers["mcp-method"], headers["mcp-protocol-version"], headers["mcp-name"], headers["x-own"]],
    ["tools/call", MODERN, "echo", "1"],
    "the headers",
  );
});

await scene("a tool with an invalid x-mcp-header is hidden and its call refused", BROKEN, async ({ start, asked }) => {
  const host = start();
  const { result } = await host.ask(1, "tools/list");
  const names = result.tools.map((tool) => tool.name);
  must(!names.includes("broken") && names.includes("echo"), "all tools but `broken`", names);
  must(/broken/.test(host.stderr), "a log line", host.stderr.slice(-500));
  const refused = await host.call(2, "broken", { list: ["a"] });
  must(refused.error, "an error", refused);
  equals(asked("tools/call").length, 0, "calls at the server:");
  return refused.error.message;
});

await scene("20 concurrent calls, each on its own stream", TS2, async ({ wire, start }) => {
  const host = start();
  const answers = await Promise.all(Array.from({ length: 20 }, (_, id) => host.call(id, "echo", { text: `${id}` })));
  answers.forEach((answer, id) => equals(text(answer), `echo ${id}`, "the answer"));
  await until(() => !wire.open().length, "the end of all streams");
});

await scene("an open subscription does not delay the exit", TS2, async ({ wire, start }) => {
  const host = start();
  await listen(host, "listen:0");
  const { code, took } = await host.leave();
  equals(code, 0, "exit code");
  const answers = host.messages.filter(({ id }) => id === "listen:0");
  must(answers.length === 1 && answers[0].result, "a graceful result for the subscription", answers);
  must(took <= 100, "an exit within 100 ms (10 on an idle machine)", took);
  await until(() => !wire.open().length, "the end of the stream");
  return `exit after ${took} ms`;
});

await scene("cancelling a subscription closes its stream and posts nothing", TS2, async ({ wire, start, asked }) => {
  const host = start();
  await listen(host, "listen:0");
  host.send({ method: "notifications/cancelled", params: { requestId: "listen:0", _meta } });
  const [stream] = asked("subscriptions/listen");
  await until(() => stream.endedBy === "client", "the end of the stream by the client", 2_000);
  equals(text(await host.call(1, "echo", { text: "a" })), "echo a", "the answer");
  equals(methods(wire.exchanges), ["server/discover", "subscriptions/listen", "tools/call"], "the requests");
});

await scene("a subscription is reopened after its stream is lost, and announces list_changed once", TS2, async ({ start, asked }) => {
  const host = start();
  await listen(host, "listen:0");
  const lost = asked("subscriptions/listen")[0];
  lost.cut();
  await until(() => asked("subscriptions/listen").length === 2, "the same subscription again");
  equals(rpc(asked("subscriptions/listen")[1]), rpc(lost), "the same message");
  await until(() => host.heard("notifications/tools/list_changed").length, "the announcement");
  await host.call(1, "change");
  await until(() => host.heard("notifications/tools/list_changed").length === 2, "a later change");
  await sleep(200);
  equals(host.heard("notifications/subscriptions/acknowledged").length, 1, "acknowledgements:");
  equals(host.heard("notifications/tools/list_changed").length, 2, "announcements:");
  must(!host.messages.some(({ id }) => id === "listen:0"), "no answer to the subscription");
});

await scene("a call whose stream is lost fails and is not resent", TS2, async ({ start, asked }) => {
  const host = start();
  await host.ask(1, "tools/list");
  const called = host.call(2, "wait");
  await until(() => asked("tools/call").length, "the call at the server");
  await sleep(100);
  const [lost] = asked("tools/call");
  lost.cut();
  equals(lost.endedBy, "wire", "the stream's end by the");
  const { error } = await called;
  must(error, "an error");
  await sleep(300);
  equals(asked("tools/call").length, 1, "calls at the server:");
  return error.message;
});

await scene("errors for unknown methods and tools come from the server", TS2, async ({ start }) => {
  const host = start();
  const unknown = await host.ask(1, "no/such-method");
  equals(unknown.error?.code, -32601, "the code");
  const { error, result } = await host.call(2, "none");
  must(error?.code === -32602 || result?.isError, "an error", { error, result });
});

await scene("HTTP 503 is not remembered as the server's era", TS1, async ({ wire, start, asked }) => {
  wire.answerWith(() => 503);
  const first = start();
  const began = performance.now();
  const { error } = await first.ask(1, "server/discover");
  const took = Math.round(performance.now() - began);
  must(error && took < 2_500, "an error within 2.5 s", { error, took });
  await first.end();
  wire.answerWith(() => undefined);
  const before = asked("server/discover").length;
  const second = start();
  equals((await second.ask(1, "server/discover")).error?.code, -32601, "the code");
  equals(asked("server/discover").length, before + 1, "server/discover at the server:");
  must((await second.handshake(2)).result, "an answer to initialize");
  return `503 became ${error.code} after ${took} ms`;
});

await scene("a process killed right after its answer has remembered the era", TS1, async ({ start, asked }) => {
  const probe = start();
  equals((await probe.ask(1, "server/discover")).error?.code, -32601, "the code");
  await probe.end();
  const host = start();
  const began = performance.now();
  equals((await host.ask(1, "server/discover")).error?.code, -32601, "the code");
  const took = Math.round(performance.now() - began);
  equals(asked("server/discover").length, 1, "server/discover at the server:");
  must((await host.handshake(2)).result, "an answer to initialize");
  return `answered after ${took} ms`;
});

await scene("a legacy server that becomes modern-only is noticed by the second start", TS1, async ({ wire, start }) => {
  const first = start();
  await first.ask(1, "server/discover");
  must((await first.handshake(2)).result, "an answer to initialize");
  await first.leave();
  wire.switchTo(await url(STRICT));
  // The adapter may refuse the host once, because only a request can show the change.
  const tries = [];
  for (let turn = 0; turn < 2; turn += 1) {
    const from = wire.exchanges.length;
    const host = start();
    const found = await host.ask(1, "server/discover");
    if (found.error) await host.handshake(2);
    tries.push(`${found.result ? "modern" : `error ${found.error.code}`} (${methods(wire.exchanges.slice(from)).join(", ")})`);
    await host.leave();
    if (found.result) break;
  }
  must(/^modern/.test(tries.at(-1)), "modern by the second start", tries);
  return tries.join(", then ");
});

await scene("a modern server that becomes legacy is noticed in the same start", STRICT, async ({ wire, start }) => {
  const first = start();
  must((await first.ask(1, "server/discover")).result, "a result");
  await first.leave();
  wire.switchTo(await url(TS1));
  const from = wire.exchanges.length;
  const host = start();
  equals((await host.ask(1, "server/discover")).error?.code, -32601, "the code");
  must((await host.handshake(2)).result, "an answer to initialize");
  return methods(wire.exchanges.slice(from)).join(", ");
});

await scene("--protocol legacy refuses server/discover without a request", TS2, async ({ wire, start }) => {
  const host = start("--protocol", "legacy");
  equals((await host.ask(1, "server/discover")).error?.code, -32601, "the code");
  equals(wire.exchanges.length, 0, "requests:");
  equals((await host.handshake(2)).result?.protocolVersion, LEGACY, "the version");
  equals(methods(wire.exchanges).filter((method) => method !== "GET"), ["initialize"], "the requests");
});

await scene("--protocol modern never sends initialize", TS1, async ({ start, asked }) => {
  const host = start("--protocol", "modern");
  const { error } = await host.ask(1, "server/discover");
  must(error && error.message.includes(MODERN), "an error that names the era", error);
  const refused = await host.handshake(2);
  must(refused.error, "an error for initialize, too", refused);
  equals(asked("initialize").length, 0, "initialize at the server:");
  return error.message;
});

await scene("initialize for 2026-07-28 is answered with 2025-11-25", TS2, async ({ start }) => {
  const host = start();
  host.send({ id: 1, method: "initialize", params: { protocolVersion: MODERN, capabilities: {}, clientInfo: { name: "rmcp", version: "3.11.0" } } });
  equals((await host.answer(1)).result?.protocolVersion, LEGACY, "the version");
});

// Bridges. The name of these hosts is unknown, so `mcp-remote` expects no fallback.

const unknown = {
  "io.modelcontextprotocol/protocolVersion": MODERN,
  "io.modelcontextprotocol/clientInfo": { name: "unknown-host", version: "1.0.0" },
  "io.modelcontextprotocol/clientCapabilities": { elicitation: { form: {} } },
};
const modernAsk = (host, id, method, params = {}) => {
  host.send({ id, method, params: { ...params, _meta: unknown } });
  return host.answer(id);
};
const legacyStart = async (host) => {
  const params = { protocolVersion: LEGACY, capabilities: { elicitation: { form: {} } }, clientInfo };
  host.send({ id: 0, method: "initialize", params });
  const { result, error } = await host.answer(0);
  must(result, "an answer to initialize", error);
  host.send({ method: "notifications/initialized" });
};

await scene("a bridged modern host notices in the same start that its legacy server became modern", TS1, async ({ wire, start }) => {
  const first = start();
  must((await modernAsk(first, 1, "server/discover")).result, "a result");
  await first.leave();
  wire.switchTo(await url(STRICT));
  const from = wire.exchanges.length;
  const host = start();
  must((await modernAsk(host, 1, "server/discover")).result, "a result");
  equals(text(await modernAsk(host, 2, "tools/call", { name: "echo", arguments: { text: "a" } })), "echo a", "the answer");
  return methods(wire.exchanges.slice(from)).join(", ");
});

await scene("a bridged legacy host notices in the same start that its modern server became legacy", STRICT, async ({ wire, start }) => {
  const first = start();
  await legacyStart(first);
  await first.leave();
  wire.switchTo(await url(TS1));
  const from = wire.exchanges.length;
  const host = start();
  await legacyStart(host);
  host.send({ id: 1, method: "tools/call", params: { name: "echo", arguments: { text: "a" } } });
  equals(text(await host.answer(1)), "echo a", "the answer");
  return methods(wire.exchanges.slice(from)).join(", ");
});

await scene("an open question ends when a bridged legacy host closes", STRICT, async ({ wire, start }) => {
  const host = start();
  await legacyStart(host);
  host.send({ id: 1, method: "tools/call", params: { name: "ask", arguments: {} } });
  await until(() => host.heard("elicitation/create").length, "the question");
  const { code, took } = await host.leave();
  equals(code, 0, "exit code");
  // As long as for any other call that is not answered.
  must(took <= 2_000, "an exit within two seconds", took);
  await until(() => !wire.open().length, "the end of all streams");
  return `exit after ${took} ms`;
});

await scene("a call that waits for input does not delay the exit of a bridged modern host", TS1, async ({ wire, start, asked }) => {
  const host = start();
  await modernAsk(host, 1, "tools/list");
  const { result } = await modernAsk(host, 2, "tools/call", { name: "twice", arguments: {} });
  equals(result.resultType, "input_required", "the result");
  const { code, took } = await host.leave();
  equals(code, 0, "exit code");
  must(took <= 1_000, "an exit within a second", took);
  await until(() => !wire.open().length, "the end of all streams");
  must(wire.exchanges.some(({ method }) => method === "DELETE"), "the end of the session");
  return `exit after ${took} ms`;
});

await scene("requestState continues one call, once", TS1, async ({ start }) => {
  const host = start();
  await modernAsk(host, 1, "tools/list");
  const call = { name: "twice", arguments: {} };
  const { result } = await modernAsk(host, 2, "tools/call", call);
  const inputResponses = { [Object.keys(result.inputRequests)[0]]: { action: "accept", content: { name: "Ada" } } };
  const again = { inputResponses, requestState: result.requestState };
  equals((await modernAsk(host, 3, "tools/call", { name: "ask", arguments: {}, ...again })).error?.code, -32602, "the code for another tool");
  const next = await modernAsk(host, 4, "tools/call", { ...call, ...again });
  equals(next.result?.resultType, "input_required", "the second round");
  equals(Object.keys(next.result.inputRequests).length, 2, "questions:");
  equals((await modernAsk(host, 5, "tools/call", { ...call, ...again })).error?.code, -32602, "the code for the second use");
});

await scene("a declined question arrives at the other era as declined", TS1, async ({ wire, start }) => {
  const host = start();
  await modernAsk(host, 1, "tools/list");
  const call = { name: "twice", arguments: {} };
  const { result } = await modernAsk(host, 2, "tools/call", call);
  const inputResponses = { [Object.keys(result.inputRequests)[0]]: { action: "decline" } };
  await modernAsk(host, 3, "tools/call", { ...call, inputResponses, requestState: result.requestState });
  const answers = wire.exchanges.map(rpc).filter(({ method, result }) => !method && result);
  equals(answers.map(({ result }) => result.action), ["decline"], "the answers at the server");
});

await scene("a bridged legacy host learns of changes after the stream of its subscriptions is lost", STRICT, async ({ start, asked }) => {
  const host = start();
  await legacyStart(host);
  await until(() => asked("subscriptions/listen").length, "a subscription");
  await sleep(100);
  asked("subscriptions/listen")[0].cut();
  await until(() => asked("subscriptions/listen").length === 2, "the same subscription again");
  await until(() => host.heard("notifications/tools/list_changed").length, "the announcement");
  host.send({ id: 1, method: "tools/call", params: { name: "change", arguments: {} } });
  await until(() => host.heard("notifications/tools/list_changed").length === 2, "a later change");
  await sleep(200);
  equals(host.heard("notifications/tools/list_changed").length, 2, "announcements:");
});

await scene("a call of a bridged legacy host whose stream is lost fails and is not resent", STRICT, async ({ start, asked }) => {
  const host = start();
  await legacyStart(host);
  host.send({ id: 1, method: "tools/call", params: { name: "wait", arguments: {} } });
  await until(() => asked("tools/call").length, "the call at the server");
  await sleep(100);
  asked("tools/call")[0].cut();
  must((await host.answer(1)).error, "an error");
  await sleep(300);
  equals(asked("tools/call").length, 1, "calls at the server:");
});

await scene("a change right after the acknowledgement reaches a bridged modern host", TS1, async ({ start }) => {
  const host = start();
  host.send({ id: "listen:0", method: "subscriptions/listen", params: { _meta: unknown, notifications: { toolsListChanged: true } } });
  await until(() => host.heard("notifications/subscriptions/acknowledged").length, "the acknowledgement");
  await modernAsk(host, 1, "tools/call", { name: "change", arguments: {} });
  await until(() => host.heard("notifications/tools/list_changed").length, "the announcement", 3_000);
});

await scene("the first call of a bridged modern host may ask on the stream of the session", TS1, async ({ start }) => {
  const host = start();
  host.send({ id: 1, method: "tools/call", params: { name: "ask", arguments: {}, _meta: unknown } });
  await until(() => host.messages.some(({ id }) => id === 1), "an answer", 3_000);
  equals(host.messages.find(({ id }) => id === 1).result?.resultType, "input_required", "the result");
});

await scene("two concurrent calls of a bridged modern host may ask on the stream of the session", TS1, async ({ start }) => {
  const host = start();
  await modernAsk(host, 1, "tools/list");
  await sleep(300);
  const call = { name: "ask", arguments: {} };
  const answers = await Promise.all([modernAsk(host, 2, "tools/call", call), modernAsk(host, 3, "tools/call", call)]);
  must(answers.every(({ result }) => result?.resultType === "input_required"), "two questions", answers);
});

await end(failed ? 1 : 0);
