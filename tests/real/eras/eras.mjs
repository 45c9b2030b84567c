// Real hosts and servers of both protocol eras through the adapter. The legacy era
// starts with `initialize` (2025-11-25 and earlier), the modern era with
// `server/discover` (2026-07-28).
//
//   node eras.mjs <adapter> [FILTER]     FILTER: a regular expression over "host → server"
//   node eras.mjs direct [FILTER]        the same sessions without the adapter
//
// Prints one line per pair (`ok ...` / `FAIL ...`) and a table, and exits 1 if any
// failed. A failed cell shows the expected outcome and the check that failed.
// WIRE=1 prints all requests and messages.

import { mkdtemp, readFile, readdir, writeFile } from "node:fs/promises";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { check, failed, must } from "../checks.mjs";
import { SERVERS, end, folder, here, node, python, run, startServer } from "./processes.mjs";
import { line, rpc, sent, startWire } from "./wire.mjs";

const [adapter, filter = ""] = process.argv.slice(2);
if (!adapter) {
  console.error("usage: node eras.mjs <adapter|direct> [FILTER]");
  process.exit(2);
}
const direct = adapter === "direct";

const MODERN = "2026-07-28";
/** How many pairs run concurrently. */
const WIDTH = 3;
/** How long the adapter may take to exit after the end of its input, in ms. */
const EXIT_LIMIT = 2_000;

const INSPECTOR = here("../node_modules/@modelcontextprotocol/inspector/clients/launcher/build/index.js");

// The hosts.

const script = (...command) => (session, env) => runHost([...command, JSON.stringify(session)], env);
const HOSTS = {
  "TS 1": { speaks: "legacy", open: script(...node(here("host-ts.mjs"), "first")) },
  "TS 2": { speaks: "legacy", open: script(...node(here("host-ts.mjs"), "legacy")) },
  "TS 2 auto": { speaks: "both", open: script(...node(here("host-ts.mjs"), "auto")) },
  "TS 2 pinned": { speaks: "modern", open: script(...node(here("host-ts.mjs"), "pinned")) },
  "py 2.3 auto": { speaks: "both", open: script(python("dual"), here("host_python.py"), "auto") },
  "py 2.3 pinned": { speaks: "modern", open: script(python("dual"), here("host_python.py"), MODERN) },
  inspector: { speaks: "legacy", open: inspect("legacy") },
  "inspector auto": { speaks: "both", open: inspect("auto") },
  "inspector modern": { speaks: "modern", open: inspect("modern") },
};

/** Returns the era that a pair settles on, or `refused` if the two share none. */
function expected(host, server) {
  if (host.speaks === "legacy") return server.speaks === "modern" ? "refused" : "legacy";
  if (server.speaks !== "legacy") return "modern";
  return host.speaks === "modern" ? "refused" : "legacy";
}

/** Steps that a server fails in an era even without the adapter, and how. */
const LACKING = {
  // Its legacy leg is stateless, so the server has no stream for its own messages.
  "TS 2 legacy": { ask: /required capability/, changed: /no list_changed|no end|TimeoutError/ },
  // It does not implement `subscriptions/listen`: HTTP 404 with -32601.
  "FastMCP 4 modern": { changed: /Method not found/ },
};

async function runHost(command, env) {
  const { out, err } = await run(command, env);
  const said = out.trim().split("\n").pop();
  if (!said?.startsWith("{")) throw new Error(`the host said nothing: ${out} ${err.slice(-1500)}`);
  return { ...JSON.parse(said), err };
}

/** Runs the official inspector, one process per request. */
function inspect(era) {
  return async (session, env) => {
    const { tools, brief, ...server } = session;
    const file = path.join(env.TAP, "servers.json");
    const it = server.url ? { type: "streamable-http", url: server.url } : { type: "stdio", command: server.command, args: server.args, env };
    await writeFile(file, JSON.stringify({ mcpServers: { it } }));
    const report = { steps: {}, err: "" };
    const ask = async (name, wanted, ...call) => {
      const cli = node(INSPECTOR, "--cli", "--config", file, "--server", "it", "--format", "json", "--protocol-era", era, ...call);
      const { code, out, err } = await run(cli, { HOME: folder, MCP_INSPECTOR_SECRET_STORE: "memory" });
      report.err += err;
      report.steps[name] = code === 0 && out.includes(wanted) ? "ok" : `ended with ${code}: ${out} ${err}`.slice(0, 1500);
    };
    await ask("tools", `"${tools.echo[0]}"`, "--method", "tools/list");
    if (brief) return report;
    const [echo, args] = tools.echo;
    await ask("text", "héllo", "--method", "tools/call", "--tool-name", echo, "--tool-args-json", JSON.stringify(args));
    await ask("resources", "uri", "--method", "resources/list");
    await ask("prompts", "name", "--method", "prompts/list");
    return report;
  };
}

// Checks of what was recorded.

/** Returns the records of `tap.mjs`: one list per adapter process, in start order. */
async function tapped(folder) {
  const files = (await readdir(folder)).filter((file) => file.endsWith(".jsonl")).sort();
  const texts = await Promise.all(files.map((file) => readFile(path.join(folder, file), "utf8")));
  return texts.map((text) => text.trim().split("\n").map((note) => JSON.parse(note)));
}

const posts = (exchanges) => exchanges.filter(({ method }) => method === "POST");
const asks = (method) => (exchange) => rpc(exchange).method === method;
const show = (exchanges) => exchanges.map(line).join(" | ");

/** Encodes a header value as the 2026-07-28 transport does. */
const encoded = (value) => (/^[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?$/.test(value) ? value : `=?base64?${Buffer.from(value).toString("base64")}?=`);

/** Returns the era of the requests that the server accepted. */
function eraSeen(exchanges) {
  const accepted = posts(exchanges).filter(({ status }) => status < 300);
  if (accepted.some(asks("initialize"))) return "legacy";
  return accepted.some(({ headers }) => headers["mcp-protocol-version"] === MODERN) ? "modern" : "nothing accepted";
}

/** Returns the headers that a 2026-07-28 message requires. */
function modernHeaders({ method, params }) {
  const name = params?.name ?? params?.uri;
  const region = method === "tools/call" && params.name === "region" && params.arguments.region;
  return {
    "mcp-protocol-version": params?._meta?.["io.modelcontextprotocol/protocolVersion"],
    "mcp-method": method,
    "mcp-name": ["tools/call", "prompts/get", "resources/read"].includes(method) ? encoded(name) : undefined,
    "mcp-param-region": region ? encoded(region) : undefined,
    "mcp-session-id": undefined,
    "last-event-id": undefined,
  };
}

function judgeModern(exchanges, server) {
  const strange = exchanges.filter(({ method }) => method !== "POST");
  must(!strange.length, `no GET and no DELETE; saw ${show(strange)}`);
  must(!exchanges.some(asks("initialize")), `no initialize; saw ${show(exchanges.filter(asks("initialize")))}`);
  for (const exchange of exchanges) {
    const message = rpc(exchange);
    for (const [name, value] of Object.entries(modernHeaders(message))) {
      must(exchange.headers[name] === value, `${name}: ${value} with ${message.method}; saw ${exchange.headers[name]}`);
    }
    // A cancelled request has no status, because its stream was closed first.
    const unknown = exchange.status === 404 && exchange.answer.includes('"code":-32601');
    must(!(exchange.status >= 400) || unknown, `accepted: ${line(exchange)}`);
  }
  const cancelled = exchanges.filter(asks("notifications/cancelled"));
  must(!cancelled.length, `no notifications/cancelled; saw ${show(cancelled)}`);
  const waits = exchanges.filter((exchange) => isWait(exchange, server));
  for (const wait of waits) {
    must(wait.endedBy === "client" && wait.endedAt - wait.at < 2_000, `the cancelled call's stream closed by the client: ${line(wait)}`);
  }
  return waits.length ? `cancelled stream closed after ${waits[0].endedAt - waits[0].at} ms` : "";
}

const isWait = (exchange, { tools }) => {
  const { method, params } = rpc(exchange);
  return method === "tools/call" && params.name === tools.wait[0] && JSON.stringify(params.arguments) === JSON.stringify(tools.wait[1]);
};

function judgeLegacy(exchanges, report) {
  const accepted = posts(exchanges).filter((exchange) => asks("initialize")(exchange) && exchange.status < 300);
  must(accepted.length, `an initialize that is accepted; saw ${show(exchanges)}`);
  const modern = exchanges.filter((exchange) => "mcp-method" in exchange.headers && !asks("server/discover")(exchange));
  must(!modern.length, `no header of the other era; saw ${show(modern)}`);
  if (report.steps.cancel) must(exchanges.some(asks("notifications/cancelled")), "notifications/cancelled at the server");
}

/** Returns the requests of one start before `initialize`, except the GET that opens HTTP+SSE. */
function before(exchanges) {
  const wanted = exchanges.filter(({ method }) => method !== "GET");
  const first = wanted.findIndex(asks("initialize"));
  return first < 0 ? wanted : wanted.slice(0, first);
}

/** Checks that each message received at one end was sent at the other, byte for byte. */
function judgeBytes(taps, exchanges) {
  const notes = taps.flat();
  const written = new Set(notes.filter((note) => "host" in note).map(({ host }) => host));
  const made = posts(exchanges).filter(({ body }) => !written.has(body));
  must(!made.length, `every message at the server as the host wrote it; saw ${made.map(({ body }) => body.slice(0, 300)).join(" | ")}`);
  const answered = new Set(exchanges.flatMap(sent));
  const own = new Set();
  for (const text of written) {
    const { id, method } = JSON.parse(text);
    // The adapter itself answers a refused discover and an ended subscription.
    if (["server/discover", "subscriptions/listen"].includes(method)) own.add(id);
  }
  const changed = notes.filter(({ adapter }) => {
    if (adapter === undefined || answered.has(adapter)) return false;
    const { id, method } = JSON.parse(adapter);
    return method !== undefined || !own.has(id);
  });
  must(!changed.length, `every message at the host as the server wrote it; saw ${changed.map((note) => note.adapter.slice(0, 300)).join(" | ")}`);
}

/** Checks the exits; returns the longest time from the end of input to an exit. */
function judgeEnds(taps) {
  let longest = 0;
  for (const notes of taps) {
    const exit = notes.find((note) => "exit" in note);
    // The TypeScript SDK kills the process that it starts for `server/discover` only.
    if (notes.some((note) => note.signal)) continue;
    const eof = notes.find((note) => note.eof);
    must(exit && eof, `an exit after the end of the input; saw ${JSON.stringify(notes.slice(-2)).slice(0, 400)}`);
    must(Number.isInteger(exit.exit), `an exit without a signal; saw ${exit.exit}`);
    longest = Math.max(longest, exit.at - eof.at);
  }
  must(longest <= EXIT_LIMIT, `an exit within ${EXIT_LIMIT} ms of the end of the input; took ${longest}`);
  return longest;
}

/** Checks that no stream outlives the adapter. */
async function judgeStreams(wire) {
  for (let wait = 0; wire.open().length && wait < 50; wait += 1) await sleep(10);
  must(!wire.open().length, `no stream left open; saw ${show(wire.open())}`);
}

/** Checks that the error names the versions of both sides; returns its message. */
function judgeRefusal(report, taps) {
  const failed = report.error ?? Object.values(report.steps).find((said) => said !== "ok");
  must(failed, "the host sees a failure", report.steps);
  must(!Object.values(report.steps).includes("ok"), "no step succeeds", report.steps);
  const errors = taps.flat().filter(({ adapter }) => adapter && "error" in JSON.parse(adapter)).map(({ adapter }) => JSON.parse(adapter).error);
  must(errors.length, "an error on the host's pipe");
  const { message } = errors[0];
  must(message.includes(MODERN) && /2025-\d\d-\d\d|2024-11-05|earlier versions|\binitialize\b/.test(message), `an error that names both eras; saw ${errors.map((e) => JSON.stringify(e)).join(" | ").slice(0, 600)}`);
  return message;
}

// One pair.

async function pair(hostName, serverName, target) {
  const host = HOSTS[hostName];
  const server = SERVERS[serverName];
  const want = expected(host, server);
  const tap = await mkdtemp(path.join(folder, "tap-"));
  const wire = await startWire(target);
  const { tools, answer } = server;
  const session = (brief) =>
    direct
      ? { url: wire.url, tools, answer, brief }
      : { command: process.execPath, args: [here("tap.mjs"), adapter, wire.url], env, tools, answer, brief };
  const env = { PATH: process.env.PATH, HOME: folder, TAP: tap, MCP_REMOTE_CONFIG_DIR: path.join(tap, "store") };
  let report;
  let notes = [];
  let about = "session"; // the check in progress, for the table
  const told = () =>
    [...wire.exchanges.map(line), ...(process.env.WIRE ? notes.flat().map((n) => JSON.stringify(n).slice(0, 500)) : []), JSON.stringify({ ...report, err: undefined }), report?.err].join("\n");
  const passed = await check(
    `${hostName} → ${serverName}: ${want}`,
    async () => {
      report = await host.open(session(want === "refused"), env);
      notes = direct ? [] : await tapped(tap);
      if (want === "refused") {
        if (direct) return must(report.error || Object.values(report.steps).every((said) => said !== "ok"), "a failure", report);
        about = "error text";
        const message = judgeRefusal(report, notes);
        about = "exit";
        judgeEnds(notes);
        about = "open streams";
        await judgeStreams(wire);
        return `${wire.exchanges.length} requests, "${message}"`;
      }
      const got = eraSeen(wire.exchanges);
      about = got === want ? "session" : got;
      must(!report.error, `connected; the host says ${report.error}`);
      const lacking = LACKING[`${serverName} ${want}`] ?? {};
      const wrong = Object.entries(report.steps).filter(([name, said]) => !(lacking[name] ? lacking[name].test(said) : said === "ok"));
      must(!wrong.length, `every step; saw ${JSON.stringify(Object.fromEntries(wrong))}`);
      const first = [...wire.exchanges];
      if (direct) return JSON.stringify(report.steps);
      about = "bytes";
      judgeBytes(notes, first);
      about = got === want ? "wire" : got;
      const said = [];
      if (want === "modern") said.push(judgeModern(first, server));
      else judgeLegacy(first, report);
      about = "exit";
      const longest = judgeEnds(notes);
      about = "open streams";
      await judgeStreams(wire);
      said.push(`exit after ${longest} ms`);
      about = "requests at the starts";
      if (want === "legacy" && host.speaks === "both") said.push(await countStarts(hostName, session, env, wire, first));
      return said.filter(Boolean).join(", ");
    },
    { limitMs: 60_000, told },
  );
  if (process.env.WIRE && passed) console.log(told().replace(/^/gm, "    | "));
  await wire.stop();
  return { passed, cell: passed ? want : `**${want}: ${about}**` };
}

/** Counts the requests before `initialize` at the first start and at the next one. */
async function countStarts(hostName, session, env, wire, first) {
  const firsts = before(first);
  must(firsts.length === 1 && asks("server/discover")(firsts[0]), `one server/discover before the first initialize; saw ${show(firsts)}`);
  const report = await HOSTS[hostName].open(session(true), env);
  must(report.steps.tools === "ok", "the second start works", report);
  const second = wire.exchanges.slice(first.length);
  const again = before(second);
  must(!again.length, `no request before the host's initialize at the second start; saw ${show(again)}`);
  const refused = second.filter(({ status }) => status >= 400);
  must(!refused.length, `no refused request at the second start; saw ${show(refused)}`);
  return "1 request before the first initialize, 0 before the second";
}

// All pairs.

const wanted = [];
for (const host of Object.keys(HOSTS)) {
  for (const server of Object.keys(SERVERS)) {
    if (direct && server === "everything sse") continue;
    if (new RegExp(filter).test(`${host} → ${server}`)) wanted.push([host, server]);
  }
}
const urls = {};
await Promise.all([...new Set(wanted.map(([, server]) => server))].map(async (name) => (urls[name] = await startServer(SERVERS[name]))));

const results = {};
const queue = [...wanted];
await Promise.all(
  Array.from({ length: WIDTH }, async () => {
    for (let next; (next = queue.shift()); ) {
      const [host, server] = next;
      (results[host] ??= {})[server] = await pair(host, server, urls[server]);
    }
  }),
);

const columns = Object.keys(SERVERS).filter((name) => name in urls);
console.log(`\n| host → server | ${columns.join(" | ")} |\n|---|${columns.map(() => "---|").join("")}`);
for (const host of Object.keys(results)) {
  console.log(`| ${host} | ${columns.map((name) => results[host][name]?.cell ?? "").join(" | ")} |`);
}
await end(failed ? 1 : 0);
