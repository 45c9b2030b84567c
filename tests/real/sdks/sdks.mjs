// MCP client libraries as hosts, through the adapter with its default flags,
// before a server that was never seen: who signs in takes longer than some of
// them wait. Each library runs in a process of its own (hosts/).
//
//   node sdks.mjs <adapter> [--quick] [--only PATTERN]
//
// Prints one line per check (`ok ...` / `FAIL ...`), a table at the end, and exits
// 1 if any failed. `install.sh` installs the libraries.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { setTimeout as sleep } from "node:timers/promises";
import { check, failed, must } from "../checks.mjs";
import {
  EARLY,
  Faults,
  SCENARIOS,
  SLACK,
  Table,
  available,
  expectedFirst,
  inParallel,
  isPlaceholder,
  isReal,
  mustHaveEnded,
  now,
  seconds,
  sum,
  surroundings,
  tabsOf,
} from "./harness.mjs";

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: { quick: { type: "boolean" }, only: { type: "string", default: "" } },
});
const [adapter] = positionals;
if (!adapter) {
  console.error("usage: node sdks.mjs <adapter> [--quick] [--only PATTERN]");
  process.exit(2);
}

const here = (file) => fileURLToPath(new URL(file, import.meta.url));
const node = (file, env = {}) => ({ command: [process.execPath, here(`./hosts/${file}`)], env });
const python = (venv, file) => ({ command: [here(`./venvs/${venv}/bin/python`), here(`./hosts/${file}`)], env: {} });

const UNKNOWN = [3.5, 3.5];
const NONE = "none";

// `limits`: seconds that the library waits for `initialize` and for `tools/list`;
// it fails if it gives up. `hold`: seconds that the adapter holds the two for this
// clientInfo.name. `discovers`: it asks `server/discover` first.
// `starts`: processes that it needs for a session; `again`: what gets the tools of
// later, another list in the same session or another process; `agent`: a process
// for each list and each call, so that nothing is kept between two.
const HOSTS = [
  { name: "TypeScript SDK 1.32.2", ...node("typescript-sdk-1.mjs"), limits: [60, 60], hold: UNKNOWN },
  { name: "TypeScript SDK 2.4.0", ...node("typescript-sdk-2.mjs"), limits: [60, 60], hold: UNKNOWN },
  { name: "Python SDK 1.30.0", ...python("sdk-1", "python_sdk_1.py"), limits: [NONE, NONE], hold: UNKNOWN },
  { name: "Python SDK 2.3.0", ...python("sdk-2", "python_sdk_2.py"), limits: [NONE, NONE], hold: UNKNOWN, discovers: true },
  { name: "FastMCP 4.1.2", ...python("sdk-2", "fastmcp_client.py"), limits: [NONE, NONE], hold: UNKNOWN, discovers: true },
  { name: "openai-agents 0.24.0 (Python)", ...python("sdk-1", "openai_agents.py"), limits: [5, 5], hold: UNKNOWN },
  { name: "@openai/agents 0.20.0", ...node("openai-agents.mjs"), limits: [5, 5], hold: UNKNOWN, discovers: true, starts: 2 },
  { name: "pydantic-ai 2.68.0", ...python("pydantic-ai", "pydantic_ai_toolset.py"), limits: [5, NONE], hold: UNKNOWN, discovers: true },
  { name: "langchain-mcp-adapters 0.3.2 (Python)", ...python("sdk-1", "langchain_adapters.py"), limits: [NONE, NONE], hold: UNKNOWN, agent: true },
  { name: "@langchain/mcp-adapters 1.1.4", ...node("langchain.mjs"), limits: [60, 60], hold: [50, 50], again: "process" },
  { name: "@ai-sdk/mcp 1.0.102", ...node("ai-sdk.mjs", { AI_SDK: "ai-sdk-mcp-1" }), limits: [NONE, NONE], hold: [120, 0] },
  { name: "@ai-sdk/mcp 2.0.99", ...node("ai-sdk.mjs"), limits: [NONE, NONE], hold: [120, 0], discovers: true },
  { name: "mcp-use 1.34.6", ...node("mcp-use.mjs"), limits: [58, 60], hold: [50, 50] },
];

/** How long after the end of the sign-in a library that asks again has the real tools, in seconds. */
const REAL_WITHIN = 3;
/** And how long after the server is up: it is tried again every 2 s. */
const RETRIED_WITHIN = 4;
/** What `server/discover` costs a host that asks it in a process of its own, under a name that is not known to fall back, in seconds. */
const DISCOVERING = 2;
/** What an agent does at most: it lists, and calls the tool that there is. */
const ROUNDS = 4;

const QUICK = ["3 s", "signed in"];
const QUICK_TOO = [
  ["openai-agents 0.24.0 (Python)", "15 s"],
  ["@openai/agents 0.20.0", "8 s"],
  ["pydantic-ai 2.68.0", "8 s"],
  ["pydantic-ai 2.68.0", "down 10 s"],
  ["langchain-mcp-adapters 0.3.2 (Python)", "15 s"],
  ["@langchain/mcp-adapters 1.1.4", "15 s"],
  ["TypeScript SDK 1.32.2", "down 10 s"],
  ["@ai-sdk/mcp 2.0.99", "down 10 s"],
];

/** No library tells anybody of these runs. */
const SILENT = {
  FASTMCP_CHECK_FOR_UPDATES: "off",
  LANGSMITH_TRACING: "false",
  MCP_USE_ANONYMIZED_TELEMETRY: "false",
  OPENAI_AGENTS_DISABLE_TRACING: "1",
  PYTHONDONTWRITEBYTECODE: "1",
};

/** A process that holds a library, by whose commands it is driven. */
class Library {
  #lines;

  constructor(host, adapterFile, url) {
    const { PATH, HOME, TMPDIR } = process.env;
    const env = { PATH, HOME, TMPDIR, ...SILENT, ...host.env };
    this.child = spawn(host.command[0], [...host.command.slice(1), adapterFile, url], { env, stdio: "pipe" });
    this.child.stdin.on("error", () => {});
    this.stderr = "";
    this.child.stderr.setEncoding("utf8").on("data", (chunk) => (this.stderr += chunk));
    this.#lines = createInterface({ input: this.child.stdout })[Symbol.asyncIterator]();
  }

  /** It has imported what it needs. */
  async ready() {
    return this.#answer("the start of the host");
  }

  async ask(...words) {
    this.child.stdin.write(`${words.join(" ")}\n`);
    return this.#answer(words.join(" "));
  }

  async #answer(what) {
    for (;;) {
      const { value: line, done } = await this.#lines.next();
      if (done) throw new Error(`the host has ended in ${what}: ${this.stderr.slice(-800)}`);
      if (!line.startsWith("{")) continue; // a library that prints
      const { value, error, message, ms } = JSON.parse(line);
      if (error) {
        this.stderr += error;
        throw Object.assign(new Error(`${what} failed after ${seconds(ms)} s: ${message}`), { ms });
      }
      return { value, ms };
    }
  }

  async leave() {
    await Promise.race([this.ask("close").catch(() => {}), sleep(8_000)]);
    this.child.stdin.end();
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    const timer = setTimeout(() => this.child.kill("SIGKILL"), 2_000);
    await once(this.child, "exit");
    clearTimeout(timer);
  }
}

const table = new Table();

async function cell(host, column) {
  const scenario = SCENARIOS[column];
  table.set(host.name, "waits", host.limits.join(" + ")).set(host.name, "held", host.hold.join(" + "));
  let it;
  let library;
  let said = "";
  await check(`${host.name}, ${column}`, async () => {
    it = await surroundings(adapter, scenario);
    if (scenario.signedIn) await it.signIn();
    library = new Library(host, it.install.file, it.url);
    await library.ready();
    const starts = (await it.install.starts()).length;
    await it.begin();
    const began = now();
    const since = () => seconds(now() - began);
    const report = (text) => table.set(host.name, column, text);
    const play = host.agent ? asAgent : asSession;
    try {
      const note = await play({ host, scenario, it, library, began, since, starts, report });
      return note;
    } catch (error) {
      table.add(host.name, column, ` **FAIL** ${since()} s`);
      throw error;
    } finally {
      await library.leave();
      said = `${await it.told()}\n${library.stderr}`;
      await it.stop();
    }
  }, { limitMs: ((scenario.takes ?? 10) + 110) * 1000, told: () => said });
}

/** A library that keeps its connection. */
async function asSession({ host, scenario, it, library, began, since, starts, report }) {
  const faults = new Faults();
  await library.ask("connect");
  const { value: first } = await library.ask("tools");
  const firstAfter = now() - began;
  must(isReal(first) || isPlaceholder(first), "real tools or one placeholder", first);
  const kind = isReal(first) ? "real" : "placeholder";
  let result = `${kind} ${seconds(firstAfter)} s`;
  report(result);

  if (kind === "placeholder") {
    await available(it);
    if (host.again === "process") {
      await library.ask("close");
      const next = new Library(host, it.install.file, it.url);
      await next.ready();
      await next.ask("connect");
      const { value } = await next.ask("tools").finally(() => next.leave());
      must(isReal(value), "the real tools at the next start", value);
      result += ", real at the next start";
    } else {
      await realWithin(library, scenario.down ? RETRIED_WITHIN : REAL_WITHIN);
      result += `, real ${since()} s`;
    }
    report(result);
  }
  const [initialize, list] = host.hold;
  const held = host.starts === 2 ? [initialize + DISCOVERING, list] : host.hold;
  const expected = expectedFirst(held, it.availableAfter(began), scenario);
  faults.unless(expected === "either" || kind === expected, `the first list is ${expected}`, result);
  const longest = (sum(held) + SLACK) * 1000;
  faults.unless(kind === "real" || firstAfter <= longest, `the placeholder comes within ${seconds(longest)} s`, result);
  const earliest = (sum(host.hold) - EARLY) * 1000;
  faults.unless(kind === "real" || firstAfter >= earliest, `no placeholder before ${seconds(earliest)} s`, result);

  if (host.again !== "process" || kind === "real") {
    const { value } = await library.ask("call", "read");
    faults.unless(value.includes("with "), "a real tool works", value);
    const needed = (await it.install.starts()).length - starts;
    faults.unless(needed <= (host.starts ?? 1), `${host.starts ?? 1} start(s) of the adapter`, needed);
    await library.ask("close");
  }
  faults.unless(it.person.tabs.length === tabsOf(scenario), `tabs in all: ${tabsOf(scenario)}`, it.person.tabs.length);
  await mustHaveEnded(it);
  faults.throw();
  return result;
}

/** An agent with a library that starts a process for each list and each call. */
async function asAgent({ scenario, it, library, since, report }) {
  await library.ask("connect");
  const steps = [];
  for (let round = 0; ; round += 1) {
    const { value } = await library.ask("tools");
    const real = isReal(value);
    must(real || isPlaceholder(value), "real tools or one placeholder", value);
    steps.push(`${real ? "real" : "placeholder"} ${since()} s`);
    report(steps.join(", "));
    if (real) break;
    must(round < ROUNDS, `the real tools after ${ROUNDS} calls of the placeholder`, steps);
    // Who is signed in by now, or before the first list's hold was over, needs no call.
    await library.ask("call", value[0]);
    steps.push(`called ${since()} s`);
    report(steps.join(", "));
  }
  if (scenario.takes !== undefined) {
    const calls = steps.filter((step) => step.startsWith("called")).length;
    must(calls <= (scenario.takes + 4 <= 7 ? 0 : 1), "at most one call of the placeholder", steps);
  }
  const { value } = await library.ask("call", "read");
  must(value.includes("with "), "a real tool works", value);
  must(it.person.tabs.length === tabsOf(scenario), `tabs in all: ${tabsOf(scenario)}`, it.person.tabs.length);
  await mustHaveEnded(it);
  return steps.join(", ");
}

/** The library asks again until it has the real tools. */
async function realWithin(library, limit) {
  const asked = now();
  for (;;) {
    const { value } = await library.ask("tools");
    if (isReal(value)) return;
    must(now() - asked < limit * 1000, `the real tools within ${limit} s of the server's being available`, value);
    await sleep(250);
  }
}

// The long ones first: it ends sooner.
const order = ["40 s", "15 s", "down 10 s", "8 s", "3 s", "signed in"];
const chosen = (host, column) =>
  `${host.name}, ${column}`.includes(options.only) &&
  (!options.quick || QUICK.includes(column) || QUICK_TOO.some(([name, other]) => name === host.name && other === column));
const jobs = order.flatMap((column) =>
  HOSTS.filter((host) => chosen(host, column)).map((host) => () => cell(host, column)),
);
await inParallel(jobs);
table.print(HOSTS.map(({ name }) => name), ["waits", "held", ...Object.keys(SCENARIOS)]);
process.exit(failed === 0 ? 0 : 1);
