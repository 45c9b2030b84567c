// Counts the instructions that mcp-remote executes in user space for a start and for a forwarded call,
// and fails if one of the counts is higher than its committed figure in instructions.txt.
//
//   node tests/bench/instructions.mjs [BINARY] [--write]
//
// BINARY is target/release/mcp-remote by default. `--write` commits the counts of this run as the new
// figures. valgrind counts; where it is missing it is installed from the distribution's packages.
//
// A count hardly depends on what else the machine does, as a time would. Eleven runs on two cores and on one,
// beside two builds, were within 1.1 % of each other, and with 64 calls in flight within 2.6 %, because there
// the count depends on how many answers arrive at once. The C library copies with other instructions on
// other processors, which changes a call by up to 9 %, so it is told to use those that all processors have.
// MARGIN is several times as wide as the rest, because versions of the C library and of valgrind differ too.
// The figures are for x86-64 Linux.

import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import path from "node:path";

/** How much a count may exceed its figure, as a share of it. */
const MARGIN = 0.15;
/** Calls of two sessions: the difference leaves out the start, the end, and the opening of connections. */
const [FEW, MANY] = [512, 1_536];
/** How long one session may take in ms; two seconds are usual. */
const LIMIT = 60_000;
/** Leaves the C library only what each x86-64 processor has. Unknown names are ignored; they vary with its version. */
const GLIBC_TUNABLES = "glibc.cpu.hwcaps=-AVX_Fast_Unaligned_Load,-AVX2,-AVX2_Usable,-ERMS,-SSSE3,-SSE4_1,-SSE4_2";

const here = import.meta.dirname ?? path.dirname(new URL(import.meta.url).pathname);
const file = path.join(here, "instructions.txt");
const again = path.join(here, "../real/again");

/** An MCP server with two tools: `json` answers with a JSON body, `event` with an event stream. */
async function startServer() {
  const server = createServer(async (request, response) => {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    // Its length changes with the day of the month on some systems.
    response.sendDate = false;
    if (request.method !== "POST") return response.writeHead(request.method === "DELETE" ? 200 : 405).end();
    const { id, method, params } = JSON.parse(Buffer.concat(chunks));
    if (id === undefined) return response.writeHead(202).end();
    const result =
      method === "initialize"
        ? { protocolVersion: params.protocolVersion, capabilities: { tools: {} }, serverInfo: { name: "server", version: "1" } }
        : { content: [{ type: "text", text: params.arguments.text }] };
    const body = JSON.stringify({ jsonrpc: "2.0", id, result });
    if (params.name === "event") {
      response.writeHead(200, { "content-type": "text/event-stream" }).end(`event: message\ndata: ${body}\n\n`);
    } else {
      const session = method === "initialize" ? { "mcp-session-id": "counted" } : {};
      const fields = { "content-type": "application/json", "content-length": body.length, ...session };
      response.writeHead(200, fields).end(body);
    }
  });
  // Under valgrind a connection may be idle for longer than the default.
  server.keepAliveTimeout = 0;
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return server;
}

/** The instructions of one whole session: start, `initialize`, `calls` calls of `tool`, end of input, exit. */
async function countSession(binary, url, { tool, inFlight, calls }) {
  const home = await mkdtemp(path.join(tmpdir(), "mcp-remote-count-"));
  const log = path.join(home, "valgrind.log");
  const options = ["--tool=callgrind", "--callgrind-out-file=/dev/null", `--log-file=${log}`];
  // Nothing of the environment, because the program reads it and so its size is in the count.
  const adapter = spawn("valgrind", [...options, binary, url], {
    env: { GLIBC_TUNABLES, HOME: home, PATH: process.env.PATH },
    stdio: ["pipe", "pipe", "ignore"],
  });
  const timer = setTimeout(() => adapter.kill("SIGKILL"), LIMIT);
  const exited = once(adapter, "exit");
  const send = (messages) => adapter.stdin.write(messages.map((message) => `${JSON.stringify(message)}\n`).join(""));
  // A program that ended is reported below.
  adapter.stdin.on("error", () => {});

  let [issued, answered] = [0, 0];
  const next = (count) =>
    Array.from({ length: Math.min(count, calls - issued) }, () => ({
      jsonrpc: "2.0",
      id: issued++,
      method: "tools/call",
      params: { name: tool, arguments: { text: "a small call" } },
    }));
  const clientInfo = { name: "counter", version: "1" };
  const params = { protocolVersion: "2025-06-18", capabilities: {}, clientInfo };
  send([{ jsonrpc: "2.0", id: "first", method: "initialize", params }]);
  let [unread, isInitialized] = ["", false];
  for await (const chunk of adapter.stdout) {
    const lines = (unread + chunk).split("\n");
    unread = lines.pop();
    const wrong = lines.find((line) => !line.includes('"result"'));
    if (wrong) throw new Error(`not an answer: ${wrong}`);
    answered += lines.length;
    if (answered === calls + 1) break;
    if (isInitialized) send(next(lines.length));
    else send([{ jsonrpc: "2.0", method: "notifications/initialized" }, ...next(inFlight)]);
    isInitialized = true;
  }
  adapter.stdin.end();
  const [code] = await exited;
  clearTimeout(timer);
  const counted = await readFile(log, "utf8");
  await rm(home, { recursive: true });
  if (code !== 0 || answered !== calls + 1) throw new Error(`${answered} answers, then exit code ${code}:\n${counted}`);
  return Number(/Collected : (\d+)/.exec(counted)[1]);
}

async function countAll(binary, url) {
  const counts = new Map();
  counts.set("start, initialize and exit", await countSession(binary, url, { calls: 0 }));
  for (const inFlight of [1, 64]) {
    for (const tool of ["json", "event"]) {
      const few = await countSession(binary, url, { tool, inFlight, calls: FEW });
      const many = await countSession(binary, url, { tool, inFlight, calls: MANY });
      const kind = tool === "json" ? "JSON" : "SSE";
      counts.set(`call, ${inFlight} in flight, ${kind} answer`, Math.round((many - few) / (MANY - FEW)));
    }
  }
  return counts;
}

function installValgrind() {
  const has = () => spawnSync("valgrind", ["--version"]).status === 0;
  if (has()) return;
  console.error("# apt-get install valgrind");
  const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
  for (const command of [["update"], ["install", "-y", "--no-install-recommends", "valgrind"]]) {
    spawnSync(again, ["apt-get", ...command], { env, stdio: ["ignore", 2, 2] });
  }
  if (!has()) throw new Error("valgrind is missing and could not be installed");
}

async function readFigures() {
  const lines = (await readFile(file, "utf8")).split("\n").filter((line) => line && !line.startsWith("#"));
  return new Map(lines.map((line) => line.split(": ")).map(([name, figure]) => [name, Number(figure)]));
}

async function writeFigures(counts) {
  const head = "# Instructions in user space. Written by: node tests/bench/instructions.mjs --write\n";
  await writeFile(file, head + [...counts].map(([name, count]) => `${name}: ${count}\n`).join(""));
}

/** Prints a line for each count; returns whether all are within their margin. */
function compare(counts, figures) {
  const command = "node tests/bench/instructions.mjs --write";
  let isWithin = true;
  for (const [name, count] of counts) {
    const figure = figures.get(name);
    const change = count / figure - 1;
    const seen = `${name}: ${count.toLocaleString("en")} instructions`;
    const share = `${Math.abs(100 * change).toFixed(1)} % ${change < 0 ? "fewer" : "more"}`;
    const percent = `${share} than the ${figure?.toLocaleString("en")} of instructions.txt`;
    if (figure === undefined) console.log(`FAIL ${seen}, and no figure in instructions.txt`);
    else if (change > MARGIN) console.log(`FAIL ${seen}, ${percent}; if that is intended: ${command}`);
    else if (change < -MARGIN) console.log(`ok ${seen}, ${percent}; commit the lower figure: ${command}`);
    else console.log(`ok ${seen}, ${percent}`);
    isWithin &&= change <= MARGIN;
  }
  return isWithin;
}

const words = process.argv.slice(2).filter((word) => word !== "--write");
const [binary = path.join(here, "../../target/release/mcp-remote")] = words;
installValgrind();
const server = await startServer();
const counts = await countAll(binary, `http://127.0.0.1:${server.address().port}/mcp`);
server.close();
server.closeAllConnections();
if (process.argv.includes("--write")) await writeFigures(counts);
process.exitCode = compare(counts, await readFigures()) ? 0 : 1;
