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
// `fallsBack`: its `clientInfo.name` is one that mcp-remote knows to fall back to `initialize`.
// `skipsDiscover`: its first message is `tools/list`.
const HOSTS = {
  "TS 1": { speaks: "legacy", open: script(...node(here("host-ts.mjs"), "first")) },
  "TS 2": { speaks: "legacy", open: script(...node(here("host-ts.mjs"), "legacy")) },
  "py 1.30": { speaks: "legacy", open: script(python("legacy"), here("host_python.py"), "legacy") },
  "TS 2 auto": { speaks: "both", open: script(...node(here("host-ts.mjs"), "auto")) },
  "TS 2 pinned": { speaks: "modern", open: script(...node(here("host-ts.mjs"), "pinned")) },
  "py 2.3 auto": { speaks: "both", fallsBack: true, open: script(python("dual"), here("host_python.py"), "auto") },
  "py 2.3 pinned": { speaks: "modern", skipsDiscover: true, open: script(python("dual"), here("host_python.py"), MODERN) },
  // These run only where the pair is bridged, because the SDK's clients run everywhere.
  "FastMCP 2": { speaks: "legacy", onlyBridged: true, open: script(python("legacy"), here("host_python.py"), "fastmcp", "legacy") },
  "FastMCP 4": { speaks: "both", onlyBridged: true, open: script(python("dual"), here("host_python.py"), "fastmcp", "auto") },
  inspector: { speaks: "legacy", open: inspect("legacy") },
  "inspector auto": { speaks: "both", open: inspect("auto") },
  "inspector modern": { speaks: "modern", open: inspect("modern") },
};

/**
 * Returns the era that the host sees, the era on the wire, and the name of the
 * outcome. The pair is bridged if the eras differ.
 */
function expected(host, server) {
  const wire = server.speaks === "modern" || (server.speaks === "both" && host.speaks !== "legacy") ? "modern" : "legacy";
  const seen = host.speaks === "both" ? (wire === "legacy" && (host.fallsBack || direct) ? "legacy" : "modern") : host.speaks;
  if (seen === wire) return { seen, wire, want: wire };
  return { seen, wire, want: direct ? "refused" : `bridged to ${wire}` };
}

/** Steps that a pair fails because of the server, by server and outcome, and how. */
const LACKING = {
  // Its legacy leg is stateless, so the server has no stream for its own messages.
  "TS 2 legacy": { ask: /required capability/, changed: /no list_changed|no end|TimeoutError/ },
  // It does not implement `subscriptions/listen`: HTTP 404 with -32601.
  "FastMCP 4 modern": { changed: /Method not found/ },
  "FastMCP 4 forced bridged to modern": { updates: /does not support resources\/subscribe/ },
  // It sends log messages without declaring `logging`.
  "py 2.3 forced bridged to modern": { logging: /does not support logging\/setLevel/ },
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

function judgeModern(all, server, opening) {
  const exchanges = all.slice(opening);
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

/** The keys of `_meta` that only modern requests have. */
const METADATA = /"io\.modelcontextprotocol\/(protocolVersion|clientInfo|clientCapabilities|logLevel|subscriptionId)"/;

function judgeLegacy(exchanges, report, bridged) {
  const accepted = posts(exchanges).filter((exchange) => asks("initialize")(exchange) && exchange.status < 300);
  must(accepted.length, `an initialize that is accepted; saw ${show(exchanges)}`);
  const modern = exchanges.filter((exchange) => "mcp-method" in exchange.headers && !asks("server/discover")(exchange));
  must(!modern.length, `no header of the other era; saw ${show(modern)}`);
  const marked = bridged ? posts(exchanges).filter((exchange) => !asks("server/discover")(exchange) && METADATA.test(exchange.body)) : [];
  must(!marked.length, `no metadata of the other era; saw ${marked.map(({ body }) => body.slice(0, 300)).join(" | ")}`);
  if (report.steps.cancel) must(exchanges.some(asks("notifications/cancelled")), "notifications/cancelled at the server");
}

/** Whether a request was made by the adapter itself. */
const isOwn = (exchange, method) => asks(method)(exchange) && String(rpc(exchange).id).startsWith("mcp-remote-");

/** Returns the requests of one start before its first message in the era of the server. */
function before(exchanges, era) {
  // A GET opens HTTP+SSE; a DELETE ends the session of a process that only asked `server/discover`.
  const wanted = posts(exchanges);
  const isOver = era === "legacy" ? asks("initialize") : (exchange) => !asks("initialize")(exchange) && !isOwn(exchange, "server/discover");
  const first = wanted.findIndex(isOver);
  return first < 0 ? wanted : wanted.slice(0, first);
}

/** Returns which requests each start of a pair costs before its session, or nothing if only the host's own. */
function startsOf(host, server, seen, era) {
  if (era === "legacy") {
    if (host.speaks === "legacy") return undefined;
    // A server with HTTP+SSE refuses `initialize` over Streamable HTTP, too.
    return { era, first: ["server/discover"], second: [], refused: server.at === "/sse" ? 2 : 1 };
  }
  // The server refuses the host's `initialize`, once.
  if (seen === "legacy" && server.flags) return { era, first: ["server/discover"], second: ["server/discover"], refused: 0 };
  if (seen === "legacy") return { era, first: ["initialize", "server/discover"], second: ["server/discover"], refused: 1 };
  return host.skipsDiscover ? { era, first: ["server/discover"], second: [], refused: 0 } : undefined;
}

/** Checks that each message received at one end was sent at the other, byte for byte. */
function judgeBytes(taps, exchanges, ownDiscover) {
  const notes = taps.flat();
  const written = new Set(notes.filter((note) => "host" in note).map(({ host }) => host));
  const made = posts(exchanges).filter((exchange) => !written.has(exchange.body) && !(ownDiscover && isOwn(exchange, "server/discover")));
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

/** The JSON text of the `content` of a tool's result, if the message has one. */
const contentOf = (message) => message.result?.content && JSON.stringify(message.result.content);

/** Checks that the arguments of each call and the content of each result cross the bridge. */
function judgeValues(taps, exchanges) {
  const notes = taps.flat();
  const call = ({ method, params }) => method === "tools/call" && JSON.stringify([params.name, params.arguments]);
  const calls = (messages) => new Set(messages.map(call).filter(Boolean));
  const asked = calls(notes.filter(({ host }) => host).map(({ host }) => JSON.parse(host)));
  const arrived = calls(posts(exchanges).map(rpc));
  must([...asked].every((one) => arrived.has(one)) && asked.size === arrived.size, `the host's calls at the server: ${[...asked]}; saw ${[...arrived]}`);
  const given = new Set(exchanges.flatMap(sent).map((text) => contentOf(parsed(text))));
  const got = notes.filter(({ adapter }) => adapter).map(({ adapter }) => contentOf(JSON.parse(adapter))).filter(Boolean);
  must(!asked.size || got.length, "a result of a tool at the host");
  const made = got.filter((content) => !given.has(content));
  must(!made.length, `the server's content at the host; saw ${made.join(" | ").slice(0, 600)}`);
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return {};
  }
}

const SUBSCRIPTION = "io.modelcontextprotocol/subscriptionId";

/** Checks that the host of a bridged pair sees no message that its era does not have. */
function judgeHost(taps, seen) {
  const messages = taps.flat().filter(({ adapter }) => adapter).map(({ adapter }) => JSON.parse(adapter));
  const isStrange =
    seen === "legacy"
      ? ({ method, params, result }) =>
          /subscriptions\//.test(method) || params?._meta?.[SUBSCRIPTION] !== undefined || (result?.resultType ?? "complete") !== "complete"
      : ({ id, method, params, result }) =>
          (method && id !== undefined) ||
          (result && typeof result.resultType !== "string") ||
          (method && !/progress$|message$/.test(method) && params?._meta?.[SUBSCRIPTION] === undefined);
  const strange = messages.filter(isStrange);
  must(!strange.length, `at the host only messages of the ${seen} era; saw ${JSON.stringify(strange).slice(0, 600)}`);
}

// One pair.

async function pair(hostName, serverName, target) {
  const host = HOSTS[hostName];
  const server = SERVERS[serverName];
  const { seen, wire: era, want } = expected(host, server);
  const bridged = want.startsWith("bridged");
  const tap = await mkdtemp(path.join(folder, "tap-"));
  const wire = await startWire(target);
  const all = bridged || (direct && process.env.ALL === "1");
  const { command: _, speaks, at, flags = [], ...offers } = server;
  const session = (brief) =>
    direct
      ? { url: wire.url, ...offers, brief, all }
      : { command: process.execPath, args: [here("tap.mjs"), adapter, wire.url, ...flags], env, ...offers, brief, all };
  const env = { PATH: process.env.PATH, HOME: folder, TAP: tap, MCP_REMOTE_CONFIG_DIR: path.join(tap, "store") };
  let report;
  let notes = [];
  let about = "session"; // the check in progress, for the table
  const told = () =>
    [...wire.exchanges.map(line), ...(process.env.WIRE ? notes.flat().map((n) => JSON.stringify(n).slice(0, 500)) : []), JSON.stringify({ ...report, err: undefined }), report?.err].join("\n");
  const passed = await check(
    `${hostName} → ${serverName}: ${want}`,
    async () => {
      // Without the adapter, a host may also crash at a server of the other era.
      const crashed = (error) => ({ steps: {}, error: error.message });
      report = want === "refused" ? await host.open(session(true), env).catch(crashed) : await host.open(session(false), env);
      notes = direct ? [] : await tapped(tap);
      if (want === "refused") {
        return must(report.error || Object.values(report.steps).every((said) => said !== "ok"), "a failure", report);
      }
      const got = eraSeen(wire.exchanges);
      about = got === era ? "session" : got;
      must(!report.error, `connected; the host says ${report.error}`);
      if (report.version) must((report.version >= MODERN) === (seen === "modern"), `a host that is served as ${seen}; saw ${report.version}`);
      const lacking = LACKING[`${serverName} ${want}`] ?? {};
      const wrong = Object.entries(report.steps).filter(([name, said]) => !(lacking[name] ? lacking[name].test(said) : said === "ok"));
      must(!wrong.length, `every step; saw ${JSON.stringify(Object.fromEntries(wrong))}`);
      const first = [...wire.exchanges];
      if (direct) return JSON.stringify(report.steps);
      about = bridged ? "values" : "bytes";
      if (bridged) judgeValues(notes, first);
      else judgeBytes(notes, first, host.skipsDiscover);
      about = "messages at the host";
      if (bridged) judgeHost(notes, seen);
      about = got === era ? "wire" : got;
      const said = [];
      const starts = startsOf(host, server, seen, era);
      if (era === "modern") said.push(judgeModern(first, server, seen === "legacy" && !server.flags ? 1 : 0));
      else judgeLegacy(first, report, bridged);
      about = "exit";
      const longest = judgeEnds(notes);
      about = "open streams";
      await judgeStreams(wire);
      said.push(`exit after ${longest} ms`);
      about = "requests at the starts";
      // The second start does not depend on the host's library, and FastMCP takes seconds to start.
      if (starts && !host.onlyBridged) said.push(await countStarts(hostName, session, env, wire, first, starts));
      return said.filter(Boolean).join(", ");
    },
    { limitMs: 60_000, told },
  );
  if (process.env.WIRE && passed) console.log(told().replace(/^/gm, "    | "));
  await wire.stop();
  if (bridged && report?.steps) note(hostName, serverName, report.steps, LACKING[`${serverName} ${want}`] ?? {});
  return { passed, cell: passed ? want : `**${want}: ${about}**` };
}

/** Counts the requests before the session at the first start and at the next one. */
async function countStarts(hostName, session, env, wire, first, { era, first: atFirst, second: atSecond, refused: limit }) {
  const names = (exchanges) => exchanges.map((exchange) => rpc(exchange).method).join(", ");
  const firsts = before(first, era);
  must(names(firsts) === atFirst.join(", "), `before the first session: ${atFirst}; saw ${show(firsts)}`);
  const isRefused = (exchange) => exchange.status >= 400 && !asks("subscriptions/listen")(exchange);
  must(first.filter(isRefused).length === limit, `refused requests of the first start: ${limit}; saw ${show(first.filter(isRefused))}`);
  const report = await HOSTS[hostName].open(session(true), env);
  must(report.steps.tools === "ok", "the second start works", report);
  const second = wire.exchanges.slice(first.length);
  const again = before(second, era);
  must(names(again) === atSecond.join(", "), `before the second session: ${atSecond.join(", ") || "nothing"}; saw ${show(again)}`);
  const refused = second.filter(isRefused);
  must(!refused.length, `no refused request at the second start; saw ${show(refused)}`);
  return `${atFirst.join(" and ")} before the first session, ${atSecond.join(", ") || "nothing"} before the second`;
}

// Features.

/** The steps that test a feature. */
const FEATURES = {
  tools: ["tools", "text", "region", "structured", "parallel"],
  resources: ["resources", "read"],
  prompts: ["prompts", "prompt"],
  completion: ["completion"],
  logging: ["logging"],
  progress: ["progress"],
  cancellation: ["cancel", "cancel while asking"],
  list_changed: ["changed"],
  "resource updates": ["updates"],
  sampling: ["sampling"],
  "elicitation form": ["ask", "twice"],
  "elicitation URL": ["url", "url error"],
  roots: ["roots"],
  "no tasks": ["tasks"],
};
const features = {};

/** Keeps the result of each feature of a bridged pair: `ok`, `FAIL`, `n/a` (server lacks it), or nothing if not tried. */
function note(host, server, steps, lacking) {
  features[`${host} → ${server}`] = Object.values(FEATURES).map((names) => {
    const tried = names.filter((name) => name in steps);
    if (tried.some((name) => steps[name] !== "ok" && !lacking[name])) return "**FAIL**";
    if (tried.some((name) => steps[name] !== "ok")) return "n/a";
    return tried.length ? "ok" : "";
  });
}

// All pairs.

const wanted = [];
for (const host of Object.keys(HOSTS)) {
  for (const server of Object.keys(SERVERS)) {
    if (direct && (server === "everything sse" || SERVERS[server].flags)) continue;
    // `--protocol modern` changes nothing for the other hosts.
    if (SERVERS[server].flags && HOSTS[host].speaks !== "legacy") continue;
    if (HOSTS[host].onlyBridged && !expected(HOSTS[host], SERVERS[server]).want.startsWith("bridged")) continue;
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
if (Object.keys(features).length) {
  const names = Object.keys(FEATURES);
  console.log(`\n| bridged pair | ${names.join(" | ")} |\n|---|${names.map(() => "---|").join("")}`);
  for (const [name, cells] of Object.entries(features).sort()) console.log(`| ${name} | ${cells.join(" | ")} |`);
}
await end(failed ? 1 : 0);
