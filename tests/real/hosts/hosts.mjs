// Real MCP hosts launch the adapter as a stdio server, and what each of them has as tools
// is read from the lines between the two. A result never depends on a model.
//
//   node hosts.mjs <adapter> [host...] [--quick]
//
// Prints one line per check (`ok ...` / `FAIL ...`), the table of all results at the end,
// and exits 1 if any check failed.

import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, realpath, rm } from "node:fs/promises";
import { createServer } from "node:http";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { check, failed, must, until } from "../checks.mjs";
import { Session } from "../programs.mjs";
import { world } from "../world.mjs";
import { startConnections } from "./connections.mjs";
import { drivers, freePort } from "./drivers.mjs";
import { startModel } from "./model.mjs";

const here = (file) => fileURLToPath(new URL(file, import.meta.url));
const TEE = here("./tee.sh");
const EVERYTHING = here("../node_modules/@modelcontextprotocol/server-everything/dist/index.js");

/** How many hosts run at once: they mostly wait. */
const AT_ONCE = 4;
/** How long a host may take to list the tools again after `tools/list_changed`, in ms. */
const RELIST_LIMIT = 8_000;
/** When a host that has not listed the tools again gets a prompt, in ms after `tools/list_changed`. */
const PROMPT_AFTER = 1_000;
/** How long a cell may take beyond the sign-in or the server's absence, in ms. */
const CELL_LIMIT = 45_000;
/** How long a host's first question may stay unanswered while a sign-in is pending, in ms. */
const FIRST_ANSWER_LIMIT = 2_000;
/** The same while the server is down: Claude Code goes on without an answer after 2.5 s. */
const FIRST_ANSWER_LIMIT_DOWN = 2_400;
/** A process that ends sooner than this opens no browser tab, in ms. */
const TAB_AFTER = 1_000;

// --- what is expected -------------------------------------------------------------

const SCENARIOS = [
  { name: "sign-in 3 s", signIn: 3 },
  { name: "sign-in 8 s", signIn: 8 },
  { name: "sign-in 15 s", signIn: 15 },
  { name: "sign-in 40 s", signIn: 40 },
  { name: "signed in", known: true },
  { name: "down 10 s", down: 10 },
  // The user has set the host's own limit to 10 s.
  { name: "limit 10 s", signIn: 15, limit: 10 },
  { name: "limit 10 s, second start", signIn: 22, limit: 10, starts: 2 },
];

/**
 * The results each host may have, in the order of `SCENARIOS`:
 *
 *   R  the first list has the real tools
 *   C  the host lists the real tools after `tools/list_changed`
 *   P  the host ended, or did not list the tools again, and has the placeholder tool
 *   L  the host, a single run, ended by itself before it was answered
 *
 * They follow from how long the host waits for `initialize` and for its first `tools/list`,
 * and from whether it lists again. A host that gives up is never expected. A scenario without
 * a result is not run.
 *
 * `asks`: the host asks `server/discover` first. `quick`: the scenarios of `--quick`.
 */
const EXPECTED = {
  // Waits 27 + 30 s and lists again. As the Agent SDK starts it: answered early, because -p leaves after 1-2 s.
  claude: { results: ["RC", "RC", "RC", "RC", "R", "RC"], asks: true, quick: [0, 4, 5] },
  // The same, in a terminal.
  "claude-tui": { results: ["RC", "RC", "RC", "RC", "R", "RC", "RC"], asks: true, quick: [0, 4] },
  // Starts its turn after 1-2 s and ends with it.
  "claude-p": { results: ["RLP", "RLP", "RLP", "RLP", "R", "RLP"], quick: [0] },
  // Waits 27 + 5 s and ends.
  "claude-mcp-list": { results: ["RP", "RP", "RP", "RP", "R", "RP"], asks: true, quick: [0] },
  // Waits 30 + 30 s and never lists again.
  codex: { results: ["R", "R", "R", "R", "R", "R", undefined, "R"], quick: [0, 2, 4, 5] },
  // Starts its turn after 1 s and ends with it.
  "codex-exec": { results: ["RLP", "RLP", "RLP", "RLP", "R", "RLP"], quick: [0] },
  // Waits 600 s and lists again.
  gemini: { results: ["R", "R", "R", "RC", "R", "R"], quick: [0, 4] },
  "gemini-p": { results: ["R", "R", "R", "RP", "R", "R"], quick: [0] },
  // Waits 60 + 60 s and lists again at the next prompt.
  copilot: { results: ["R", "R", "R", "RC", "R", "R"], asks: true, quick: [0, 2, 4] },
  "copilot-p": { results: ["R", "R", "R", "RP", "R", "R"], quick: [0] },
  // Waits 30 + 30 s and lists again.
  opencode: { results: ["R", "R", "R", "RC", "R", "R", undefined, "RC"], quick: [0, 4, 5] },
  "opencode-run": { results: ["R", "R", "R", "RP", "R", "R"], quick: [0] },
  // Waits 30 + 60 s, lists once and ends.
  inspector: { results: ["R", "R", "R", "R", "R", "R"], quick: [0, 2, 4] },
};

const WORDS = {
  R: "real at first",
  C: "real after list_changed",
  P: "placeholder",
  L: "left",
  G: "gave up",
  X: "no result",
};
const expected = (letters) => [...letters].map((letter) => WORDS[letter]).join(" or ");

// --- one cell -----------------------------------------------------------------------

/** A server that is down until `start`, open to everybody. */
async function serverThatIsDown() {
  const port = await freePort();
  let child;
  return {
    url: `http://127.0.0.1:${port}/mcp`,
    real: ["echo"],
    up: undefined,
    async start() {
      child = spawn(process.execPath, ["--import", here("../bind-loopback.mjs"), EVERYTHING, "streamableHttp"], {
        env: { PATH: process.env.PATH, HOME: process.env.HOME, PORT: String(port) },
        stdio: "ignore",
      });
      await until(() => isUp(port), "the server", CELL_LIMIT);
      this.up = Date.now();
    },
    async stop() {
      if (!child) return;
      const ended = once(child, "exit");
      child.kill("SIGKILL");
      await ended;
    },
  };
}

async function isUp(port) {
  const socket = connect(port, "127.0.0.1");
  const up = await once(socket, "connect").then(() => true, () => false);
  socket.destroy();
  return up;
}

/** One host in one scenario. */
class Cell {
  constructor(adapter, name, scenario, surroundings) {
    Object.assign(this, { adapter, name, scenario, ...surroundings });
    this.timers = [];
    /** The connections of each start. */
    this.seen = [];
  }

  after = (ms, body) => this.timers.push(setTimeout(body, ms));

  async run() {
    const { scenario, adapter } = this;
    const w = (this.world = await world(adapter));
    const down = scenario.down && (await serverThatIsDown());
    const folder = await mkdtemp(path.join(tmpdir(), `${this.name}-`));
    try {
      if (scenario.known) {
        const before = await new Session(w.ours(), w.env).open();
        await before.client.listTools();
        await before.close();
      }
      w.person.tabs.length = 0;
      w.person.manner = "leave";
      w.person.desk.on("tab", (tab) => this.after(scenario.signIn * 1_000, () => w.person.walk(tab).catch(() => {})));

      const [home, project, tmp] = await Promise.all(
        ["home", "project", "tmp"].map(async (part) => {
          await mkdir(path.join(folder, part));
          return path.join(folder, part);
        }),
      );
      const { model, proxy } = this;
      const target = down?.url ?? w.server.mcpUrl;
      let result;
      for (let start = 0; start < (scenario.starts ?? 1); start += 1) {
        await this.stop();
        this.watch = await startConnections();
        this.seen.push(this.watch.connections);
        if (down) this.watch.changes.once("change", () => this.after(scenario.down * 1_000, () => down.start().catch(() => {})));
        const command = [TEE, process.execPath, String(this.watch.port), adapter, target];
        this.host = await drivers[this.name]({ home, project, tmp, model, proxy, env: w.env, command, limit: scenario.limit });
        result = await this.result(down?.real ?? ["read", "write"], (scenario.signIn ?? scenario.down ?? 0) * 1_000 + CELL_LIMIT);
      }
      return { ...result, tabs: w.person.tabs.length, up: down?.up && result.at - down.up, ...this.first() };
    } finally {
      this.timers.forEach(clearTimeout);
      await this.stop();
      await down?.stop();
      await w.stop();
      await rm(folder, { recursive: true, force: true, maxRetries: 3 });
    }
  }

  async stop() {
    await this.host?.stop();
    this.watch?.stop();
  }

  /** Resolves as soon as the outcome is certain. */
  result(real, limitMs) {
    const { changes } = this.watch;
    return new Promise((resolve) => {
      const look = () => {
        const result = this.look(real);
        if (!result) return;
        changes.off("change", look);
        resolve(result);
      };
      changes.on("change", look);
      // What the host still has to say on its connections comes after its end.
      this.host.ended.then(() => this.after(500, look));
      this.after(limitMs, () => {
        changes.off("change", look);
        resolve({ letter: "X", what: `within ${limitMs / 1_000} s` });
      });
      this.again = look;
      look();
    });
  }

  look(real) {
    const { connections } = this.watch;
    // A process that only answered a probe is no session.
    const sessions = connections.filter(({ requests, ended }) => !ended || requests.some(({ method }) => method === "initialize"));
    for (const session of sessions) {
      const { givenUp, ended } = session;
      if (!givenUp) continue;
      const at = givenUp.cancelled ?? ended.at;
      const left = this.host.leaves && !givenUp.cancelled;
      return { letter: left ? "L" : "G", seconds: session.seconds(at), what: givenUp.method };
    }
    const outcomes = sessions.map((session) => this.outcome(session, real));
    if (outcomes.length >= (this.host.connections ?? 1) && outcomes.every(Boolean)) {
      return outcomes.toSorted((a, b) => "RCP".indexOf(a.letter) - "RCP".indexOf(b.letter) || a.seconds - b.seconds).at(-1);
    }
    const last = connections.at(-1);
    if (!this.host.runs && connections.every(({ ended }) => ended)) {
      if (last && this.host.leaves) return { letter: "L", seconds: last.seconds(last.ended.at) };
      return { letter: "X", what: "the host ended" };
    }
    return undefined;
  }

  outcome(session, real) {
    const { lists, changed, ended } = session;
    const answered = lists.filter((list) => list.answered);
    const last = answered.at(-1);
    if (!last) return undefined;
    const at = last.answered;
    const seconds = session.seconds(at);
    const names = last.result?.tools?.map(({ name }) => name) ?? [];
    if (real.every((name) => names.includes(name))) return { letter: answered.length === 1 ? "R" : "C", seconds, at };
    if (ended || (changed && Date.now() - changed >= RELIST_LIMIT)) return { letter: "P", seconds };
    if (changed && !session.prompted) {
      session.prompted = true;
      this.after(PROMPT_AFTER, () => lists.at(-1).at < changed && this.host.prompt?.());
      this.after(RELIST_LIMIT, () => this.again());
    }
    return undefined;
  }

  /** When the first question of the first connection was answered, and how long that lived. */
  first() {
    const [connection] = this.watch.connections;
    const [question] = connection?.requests ?? [];
    return {
      question: question?.method,
      firstAnswer: question?.answered && question.answered - connection.began,
      lived: connection?.ended && connection.ended.at - connection.began,
    };
  }

  told = () =>
    [
      ...this.seen.flat().flatMap(({ lines }, index) => lines.map((line) => `connection ${index + 1}: ${line}`)),
      this.world.told(),
      this.host?.output.slice(-1_500),
    ].join("\n");
}

// --- all cells ------------------------------------------------------------------------

/** The scenario in which the answer to a host's first question is timed. */
const timedScenario = (name) => SCENARIOS[quick ? EXPECTED[name].quick[0] : 1];

async function runCell(adapter, name, scenario, surroundings) {
  const cell = new Cell(adapter, name, scenario, surroundings);
  const { results, asks } = EXPECTED[name];
  const letters = results[SCENARIOS.indexOf(scenario)];
  let said = WORDS.X;
  const told = () => cell.told();
  const limitMs = CELL_LIMIT + (scenario.starts ?? 1) * (CELL_LIMIT + 1_000 * (scenario.signIn ?? scenario.down ?? 0));
  let seen;
  await check(`${name}, ${scenario.name}`, async () => {
    seen = await cell.run();
    const { letter, seconds, what, tabs, lived } = seen;
    said = `${WORDS[letter]}${"RCGL".includes(letter) ? `${"GL".includes(letter) ? " after" : ","} ${seconds.toFixed(1)} s` : ""}`;
    must(letters.includes(letter), `${said}${what ? ` (${what})` : ""}, expected ${expected(letters)}`);
    const most = !scenario.signIn || lived < TAB_AFTER ? 0 : (scenario.starts ?? 1);
    must(tabs <= most, `${tabs} browser tabs, at most ${most} expected`);
    return said + (seen.up >= 0 ? `, ${(seen.up / 1_000).toFixed(1)} s after the server was up` : "");
  }, { limitMs, told });
  if (asks && seen && (scenario.down || scenario === timedScenario(name))) {
    const limit = scenario.down ? FIRST_ANSWER_LIMIT_DOWN : FIRST_ANSWER_LIMIT;
    await check(`${name}, ${scenario.name}: the first question is answered within ${limit} ms`, () => {
      const time = `${seen.question}, answered ${seen.firstAnswer} ms after the start`;
      must(seen.firstAnswer <= limit, time);
      return time;
    });
  }
  return said;
}

const quick = process.argv.includes("--quick");
const [adapterFile, ...asked] = process.argv.slice(2).filter((argument) => !argument.startsWith("--"));
const names = asked.length > 0 ? asked : Object.keys(EXPECTED);
const unknown = names.filter((name) => !EXPECTED[name]);
if (!adapterFile || unknown.length > 0) {
  console.error(`usage: node hosts.mjs <adapter> [host...] [--quick]\nhosts: ${Object.keys(EXPECTED).join(", ")}`);
  process.exit(2);
}
/** Starts this script again where only loopback exists, if this machine allows that. */
function enterLoopbackOnly() {
  if (process.env.LOOPBACK_ONLY) return;
  const inside = ["--net", ...(process.getuid() === 0 ? [] : ["--map-root-user"]), "sh", "-c"];
  const up = "ip link set lo up";
  if (spawnSync("unshare", [...inside, up]).status !== 0) {
    console.log("# the hosts run with a proxy that refuses everything: this machine cannot set up a network of loopback only");
    return;
  }
  const again = [`${up} && exec "$@"`, "sh", process.execPath, ...process.argv.slice(1)];
  const child = spawn("unshare", [...inside, ...again], { stdio: "inherit", env: { ...process.env, LOOPBACK_ONLY: "1" } });
  for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => child.kill(signal));
  return once(child, "exit").then(([code]) => process.exit(code ?? 1));
}
await enterLoopbackOnly();
process.on("SIGINT", () => process.exit(130));

const adapter = await realpath(adapterFile);
const model = await startModel();
// Refuses every host that is not on this machine, and notes which were asked for.
const elsewhere = new Set();
const proxy = createServer((request, response) => {
  elsewhere.add(request.url);
  response.writeHead(403).end();
}).on("connect", (request, socket) => {
  elsewhere.add(request.url);
  socket.on("error", () => {}).end("HTTP/1.1 403 Forbidden\r\n\r\n");
});
await once(proxy.listen(0, "127.0.0.1"), "listening");
const surroundings = { model: model.url, proxy: `http://127.0.0.1:${proxy.address().port}` };

// The longest first, so that the end is not a wait for one cell.
const wanted = (name) => {
  const { results, quick: few } = EXPECTED[name];
  return quick ? few.map((index) => SCENARIOS[index]) : SCENARIOS.filter((_, index) => results[index]);
};
const length = ({ signIn, down, starts = 1 }) => (signIn ?? down ?? 0) * starts;
const cells = names.flatMap((name) => wanted(name).map((scenario) => ({ name, scenario })));
const queue = cells.toSorted((a, b) => length(b.scenario) - length(a.scenario));
await Promise.all(
  Array.from({ length: AT_ONCE }, async () => {
    for (let cell; (cell = queue.shift()); ) {
      cell.said = await runCell(adapter, cell.name, cell.scenario, surroundings);
    }
  }),
);

const columns = SCENARIOS.filter((scenario) => cells.some((cell) => cell.scenario === scenario));
console.log(`# | host | ${columns.map(({ name }) => name).join(" | ")} |`);
console.log(`# |---|${columns.map(() => "---|").join("")}`);
for (const name of names) {
  const results = columns.map((scenario) => cells.find((cell) => cell.name === name && cell.scenario === scenario)?.said ?? "");
  console.log(`# | ${name} | ${results.join(" | ")} |`);
}
if (elsewhere.size > 0) console.log(`# refused: ${[...elsewhere].sort().join(", ")}`);
process.exit(failed === 0 ? 0 : 1);
