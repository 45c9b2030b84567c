// Hosts that cannot be installed here, played with the limits that were measured
// or reported of them, through the adapter with its default flags, before a
// server that was never seen.
//
//   node doubles.mjs <adapter> [--quick] [--only PATTERN]
//
// Prints one line per check (`ok ...` / `FAIL ...`), a table at the end, and exits
// 1 if any failed.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { parseArgs } from "node:util";
import { setTimeout as sleep } from "node:timers/promises";
import { check, failed, must, until } from "../checks.mjs";
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
  console.error("usage: node doubles.mjs <adapter> [--quick] [--only PATTERN]");
  process.exit(2);
}

const UNKNOWN = [3.5, 3.5];

// `limits`: seconds that the host waits for `initialize` and for `tools/list`, one
// number for both together, none for no limit. `hold`: seconds that the adapter
// holds the two for this clientInfo.name. `relists`: after `list_changed` the host
// lists again "at once" or at the "next prompt" and uses that, lists again and
// does "not use" it, or "never" lists again. `ends`: it starts three copies, and
// ends as many of them.
const HOSTS = [
  {
    name: "Claude Desktop",
    clientInfo: { name: "claude-ai", version: "0.1.0" },
    limits: [60, 60],
    hold: [45, 10],
    relists: "not used",
    copies: 3,
    ends: 1,
  },
  {
    name: "Cursor",
    clientInfo: { name: "cursor-vscode", version: "1.0.0" },
    capabilities: { elicitation: {}, roots: { listChanged: false } },
    limits: [60, 60],
    hold: [45, 0],
    relists: "at once",
  },
  {
    name: "Windsurf",
    clientInfo: { name: "windsurf-client", version: "1.0.0" },
    limits: 60,
    hold: [45, 0],
    relists: "at once",
  },
  {
    name: "VS Code",
    clientInfo: { name: "Visual Studio Code", version: "1.124.0" },
    capabilities: { roots: { listChanged: true }, sampling: {}, elicitation: { form: {}, url: {} } },
    limits: [],
    hold: [30, 0],
    relists: "at once",
  },
  {
    name: "Zed",
    clientInfo: { name: "Zed", version: "0.240.0" },
    limits: [60, 60],
    hold: [45, 0],
    relists: "at once",
  },
  {
    name: "Kiro",
    clientInfo: { name: "Kiro", version: "1.1.14" },
    limits: [60, 60],
    hold: UNKNOWN,
    relists: "at once",
    restartsAfter: 3,
  },
  {
    name: "Cline CLI",
    clientInfo: { name: "@cline/core", version: "0.0.0" },
    protocolVersion: "2024-11-05",
    limits: [1.5, 40],
    hold: [0, 35],
    relists: "never",
  },
  {
    name: "Copilot CLI",
    clientInfo: { name: "copilot-cli", version: "1.0.102" },
    capabilities: { sampling: {}, elicitation: { form: {}, url: {} } },
    discovers: 9.4,
    limits: [60, 60],
    hold: [45, 10],
    relists: "next prompt",
    restartsAfter: 0,
  },
];
const hostNamed = (name) => HOSTS.find((host) => host.name === name);

/** How long a host takes from the start to the end of a copy that it does not need, in ms. */
const ENDS_COPIES_WITHIN = 200;
/** How long after the end of the sign-in a host is told that its tools have changed, in ms. */
const TOLD_WITHIN = 5_000;
/** How long an answer takes that is held for nobody, in ms. */
const AT_ONCE = 1_000;
/** How often a host looks at the server before it stays, and how long a look takes, in ms. */
const LOOKS = 5;
const LOOK_TAKES = 300;
/** From the notice to the user's next prompt, in ms. */
const NEXT_PROMPT = 1_500;

/** A host gave up what was not answered within its limit. */
class GaveUp extends Error {}

/** One start of the adapter by a host. */
class Session {
  #pending = new Map();
  #last = 0;
  changes = 0;

  constructor(host, file, args) {
    this.host = host;
    this.began = now();
    this.child = spawn(file, args, { stdio: ["pipe", "pipe", "ignore"] });
    this.child.stdin.on("error", () => {});
    this.ended = once(this.child, "exit");
    let rest = "";
    this.child.stdout.setEncoding("utf8").on("data", (chunk) => {
      const lines = (rest + chunk).split("\n");
      rest = lines.pop();
      for (const line of lines) this.#take(JSON.parse(line));
    });
  }

  #take(message) {
    if (message.method === "notifications/tools/list_changed") this.changes += 1;
    if (message.method === "roots/list") this.#write({ id: message.id, result: { roots: [] } });
    if (message.method === undefined) this.#pending.get(message.id)?.(message);
  }

  #write(message) {
    this.child.stdin.write(`${JSON.stringify({ jsonrpc: "2.0", ...message })}\n`);
  }

  notify(method, params) {
    this.#write({ method, params });
  }

  /** The result; given up after `limit` seconds from `since`. */
  async request(method, params, limit, since = now()) {
    const id = (this.#last += 1);
    const answer = new Promise((resolve) => this.#pending.set(id, resolve));
    this.#write({ id, method, params });
    const late = new AbortController();
    const timer = limit === undefined ? new Promise(() => {}) : sleep(limit * 1000 - (now() - since), GaveUp, { signal: late.signal });
    const exit = this.ended.then(([code, signal]) => ({ error: { message: `the adapter has ended (${code ?? signal})` } }));
    const first = await Promise.race([answer, timer.catch(() => {}), exit]);
    late.abort();
    if (first === GaveUp) {
      this.notify("notifications/cancelled", { requestId: id, reason: "timeout" });
      throw new GaveUp(`gave up ${method} after ${seconds(now() - since)} s`);
    }
    if (first.error) throw new Error(`${method}: ${JSON.stringify(first.error).slice(0, 300)}`);
    return first.result;
  }

  /** As the host opens its session; the names of the tools that it shows. */
  async open() {
    const { clientInfo, capabilities = {}, protocolVersion = "2025-11-25", limits, discovers } = this.host;
    if (discovers !== undefined) {
      const _meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": clientInfo,
        "io.modelcontextprotocol/clientCapabilities": capabilities,
      };
      const asked = now();
      const discovered = await this.request("server/discover", { _meta }, discovers).catch((error) => error);
      this.discovering = now() - asked;
      must(!(discovered instanceof GaveUp), "server/discover is answered", discovered.message);
      must(discovered instanceof Error, "a server of before 2026 is not discovered", discovered);
    }
    const opened = this.opened = now();
    const together = typeof limits === "number";
    const [limit, listLimit] = together ? [limits, limits] : limits;
    const from = discovers === undefined ? this.began : opened;
    this.answer = await this.request("initialize", { protocolVersion, capabilities, clientInfo }, limit, from);
    this.notify("notifications/initialized");
    this.initialized = now();
    return this.list(listLimit, together ? from : now());
  }

  async list(limit = 60, since = now()) {
    const { tools } = await this.request("tools/list", {}, limit, since);
    this.listed = tools;
    return tools.map((tool) => tool.name);
  }

  /** As most hosts do: it ends stdin, and kills what does not end by itself. */
  async leave() {
    this.child.stdin.end();
    const late = sleep(2_000).then(() => "late");
    if ((await Promise.race([this.ended, late])) === "late") this.child.kill("SIGTERM");
    await Promise.race([this.ended, sleep(2_000)]);
    this.child.kill("SIGKILL");
    await this.ended;
  }

  /** As Claude Desktop does with a copy that it does not need. */
  async endAtOnce() {
    await sleep(ENDS_COPIES_WITHIN / 2);
    this.child.stdin.end();
    await Promise.race([this.ended, sleep(ENDS_COPIES_WITHIN / 2)]);
    this.child.kill("SIGKILL");
    await this.ended;
  }
}

const table = new Table();

/** A check with surroundings of its own, which are shown if it fails. */
async function cell(row, column, scenario, body) {
  let said = "";
  await check(`${row}, ${column}`, async () => {
    const it = await surroundings(adapter, scenario);
    await it.begin();
    try {
      const note = await body(it, (text) => table.set(row, column, text));
      table.set(row, column, note);
      return note;
    } catch (error) {
      table.add(row, column, " **FAIL**");
      throw error;
    } finally {
      said = await it.told();
      await it.stop();
    }
  }, { limitMs: ((scenario.takes ?? 10) + 110) * 1000, told: () => said });
}

/** A host, from its start to the real tools. */
const firstStart = (host, scenario) => async (it, report) => {
  const { name, limits, hold } = host;
  const waits = typeof limits === "number" ? `${limits} for both` : limits.join(" + ") || "none";
  if (name) table.set(name, "waits", waits).set(name, "held", hold.join(" + "));
  const faults = new Faults();
  const began = now();
  const copies = Array.from({ length: host.copies ?? 1 }, () => new Session(host, it.install.file, [it.url]));
  const superfluous = copies.splice(0, host.ends ?? 0);
  const ended = Promise.all(superfluous.map((copy) => copy.endAtOnce()));
  const results = await Promise.all(
    copies.map(async (session) => {
      const first = await session.open();
      const firstAfter = now() - began;
      must(isReal(first) || isPlaceholder(first), "real tools or one placeholder", first);
      const kind = isReal(first) ? "real" : "placeholder";
      let result = `${kind} ${seconds(firstAfter)} s`;
      report(result);
      const discovering = session.discovering ?? 0;
      faults.unless(discovering <= AT_ONCE, "server/discover is answered at the challenge", `${seconds(discovering)} s`);
      const longest = (sum(host.hold) + SLACK) * 1000;
      faults.unless(kind === "real" || firstAfter <= longest, `the placeholder comes within ${seconds(longest)} s`, result);
      const earliest = (sum(host.hold) - EARLY) * 1000;
      faults.unless(kind === "real" || firstAfter >= earliest, `no placeholder before ${seconds(earliest)} s`, result);
      if (kind === "placeholder") {
        await available(it);
        result += `, ${await relisted(host, session, began)}`;
        report(result);
      }
      const expected = expectedFirst(host.hold, it.availableAfter(began), scenario);
      faults.unless(expected === "either" || kind === expected, `the first list is ${expected}`, result);
      return result;
    }),
  );
  await ended;
  faults.unless(it.person.tabs.length === tabsOf(scenario), `tabs in all: ${tabsOf(scenario)}`, it.person.tabs.length);
  await Promise.all(copies.map((session) => session.leave()));
  await mustHaveEnded(it);
  faults.throw();
  return [...new Set(results)].join(" / ");
};

/** What the host makes of a change of the list after the sign-in. */
async function relisted(host, session, began) {
  await until(() => session.changes > 0, "tools/list_changed", TOLD_WITHIN);
  if (host.relists === "never") return "placeholder until a restart";
  if (host.relists === "next prompt") await sleep(NEXT_PROMPT);
  const tools = await session.list();
  must(isReal(tools), "the real tools after tools/list_changed", tools);
  return host.relists === "not used" ? "placeholder until a restart" : `real ${seconds(now() - began)} s`;
}

/** A host that waits less than the adapter holds: the second start finds the sign-in of the first. */
const secondStart = (host, flags) => async (it, report) => {
  const { restartsAfter, limits: [limit] } = host;
  const first = new Session(host, it.install.file, [it.url, ...flags]);
  const gaveUp = await first.open().catch((error) => error);
  must(gaveUp instanceof GaveUp, "the first start is given up", gaveUp.message ?? gaveUp);
  const left = first.leave();
  await sleep(restartsAfter * 1000);
  const second = new Session(host, it.install.file, [it.url, ...flags]);
  let tools = await second.open();
  must(isReal(tools) || isPlaceholder(tools), "real tools or one placeholder", tools);
  let result = `given up after ${limit} s, then ${isReal(tools) ? "real" : "placeholder"} ${seconds(now() - first.began)} s`;
  report(result);
  if (isPlaceholder(tools)) {
    await available(it);
    result += `, ${await relisted(host, second, first.began)}`;
  }
  must(it.person.tabs.length === 1, "tabs in all: 1", it.person.tabs.length);
  await Promise.all([left, second.leave()]);
  await mustHaveEnded(it);
  return result;
};

/** Cline, which speaks as language servers do when its first start was not answered. */
const secondFraming = (host) => async (it) => {
  const flags = ["--start", "wait"];
  const first = new Session(host, it.install.file, [it.url, ...flags]);
  const gaveUp = await first.open().catch((error) => error);
  must(gaveUp instanceof GaveUp, "the first start is given up", gaveUp.message ?? gaveUp);
  await first.leave();
  const second = new Session(host, it.install.file, [it.url, ...flags]);
  const { clientInfo, protocolVersion } = host;
  const params = { protocolVersion, capabilities: {}, clientInfo };
  const body = JSON.stringify({ jsonrpc: "2.0", id: 0, method: "initialize", params });
  second.child.stdin.write(`Content-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`);
  await sleep(host.limits[0] * 1000);
  await second.leave();
  await mustHaveEnded(it);
  const log = await it.install.log();
  must(/Content-Length/.test(log), "the log names the framing", log.slice(-400));
  must(it.person.tabs.length <= 1, "tabs in all: at most 1", it.person.tabs.length);
  return "the log names the framing";
};

const SOMEBODY = { clientInfo: { name: "mcp", version: "0.1.0" }, limits: [60, 60], hold: UNKNOWN, relists: "at once" };

/** Another user of the machine signs in to the same server: this instance has no share in that. */
const secondInstance = async (it, report) => {
  const faults = new Faults();
  const first = new Session(SOMEBODY, it.install.file, [it.url]);
  const firstOpened = first.open();
  firstOpened.catch(() => {});
  await until(() => it.person.tabs.length === 1, "the tab of the first instance");
  const other = await it.installAnother();
  const second = new Session(SOMEBODY, other.file, [it.url]);
  try {
    const tools = await second.open();
    const initialize = (second.initialized - second.began) / 1000;
    const list = (now() - second.initialized) / 1000;
    let result = `initialize ${initialize.toFixed(1)} s, list ${list.toFixed(1)} s`;
    report(result);
    const [hold, listHold] = SOMEBODY.hold;
    faults.unless(isPlaceholder(tools), "one placeholder", tools);
    faults.unless(initialize <= hold + SLACK && list <= listHold + SLACK, "held as long as a host that is alone", result);
    const shown = `${second.answer.instructions ?? ""} ${JSON.stringify(second.listed)}`;
    faults.unless(/another (mcp-remote|instance|process)/i.test(shown), "the first answer names the true reason", shown);
    await firstOpened;
    await available(it);
    // Its own store needs a sign-in of its own, in its own tab, once the other one is over.
    await until(async () => isReal(await second.list()), "the real tools of the second instance", 30_000);
    result += `, real ${seconds(now() - second.began)} s, ${it.person.tabs.length} tabs`;
    faults.unless(it.person.tabs.length <= 2, "tabs in all: one each", it.person.tabs.length);
    faults.throw();
    return result;
  } finally {
    await Promise.all([first.leave(), second.leave()]);
  }
};

/** What a host asks beside the tools is answered while those are held. */
const othersMeanwhile = async (it) => {
  const session = new Session(SOMEBODY, it.install.file, [it.url]);
  const quick = async (method) => {
    const asked = now();
    const result = await session.request(method, {}, 60);
    must(now() - asked <= AT_ONCE, `${method} is answered at once`, now() - asked);
    return result;
  };
  const ping = sleep(500).then(() => quick("ping"));
  const opened = session.open();
  await ping;
  must(session.initialized === undefined, "initialize is held meanwhile");
  await until(() => session.initialized !== undefined, "the answer to initialize");
  const [prompts, resources, templates] = await Promise.all(
    ["prompts/list", "resources/list", "resources/templates/list"].map(quick),
  );
  must(session.listed === undefined, "tools/list is held meanwhile");
  const empty = [prompts.prompts, resources.resources, templates.resourceTemplates];
  must(JSON.stringify(empty) === "[[],[],[]]", "empty lists", empty);
  must(isPlaceholder(await opened), "one placeholder");
  await session.leave();
  await mustHaveEnded(it);
  return `initialize ${seconds(session.initialized - session.began)} s`;
};

/** Hosts that start a process for a look at the server, and end it. */
const looks = (scenario) => async (it, report) => {
  for (let look = 0; look < LOOKS; look += 1) {
    const session = new Session(SOMEBODY, it.install.file, [it.url]);
    session.open().catch(() => {});
    await sleep(LOOK_TAKES);
    await session.leave();
  }
  must(it.person.tabs.length === 0, "no tab for a look", it.person.tabs.length);
  return firstStart(SOMEBODY, scenario)(it, report);
};

/** A host that ends the adapter when the tab has just opened, and starts it again. */
const endedAtTheTab = async (it) => {
  const first = new Session(SOMEBODY, it.install.file, [it.url]);
  first.open().catch(() => {});
  await until(() => it.person.tabs.length === 1, "the tab");
  first.child.kill("SIGTERM");
  await first.ended;
  const second = new Session(SOMEBODY, it.install.file, [it.url]);
  const tools = await second.open();
  const result = `${isReal(tools) ? "real" : "placeholder"} ${seconds(now() - second.began)} s after the second start`;
  must(isReal(tools), "the first list is real", result);
  must(it.person.tabs.length === 1, "tabs in all: 1", it.person.tabs.length);
  await second.leave();
  await mustHaveEnded(it);
  return result;
};

/** A host that starts again, and waits as long as a test has patience for. */
const impatient = (name, limit) => ({ ...hostNamed(name), limits: [limit, 60] });

const EXTRA = [
  ["Copilot CLI, starts again at once", "8 s", secondStart(impatient("Copilot CLI", 6), ["--hold", "60"])],
  ["Kiro, starts again after 3 s", "15 s", secondStart(impatient("Kiro", 8), ["--start", "wait"])],
  ["Cline CLI, starts again with Content-Length", "3 s", secondFraming(hostNamed("Cline CLI"))],
  ["a host that looks five times and stays", "3 s", looks(SCENARIOS["3 s"])],
  ["a host that ends it at the tab and starts again", "3 s", endedAtTheTab],
  ["an instance of another user", "15 s", secondInstance],
  ["an unknown host that asks for other lists", "15 s", othersMeanwhile],
];

const COLUMNS = ["3 s", "8 s", "15 s", "40 s"];
const QUICK = ["3 s", "15 s"];
const chosen = (row, column) => `${row}, ${column}`.includes(options.only);
const columns = COLUMNS.toReversed().filter((column) => !options.quick || QUICK.includes(column));
const jobs = [
  ...EXTRA.map(([row, column, body]) => ({ row, column, body })),
  ...columns.flatMap((column) => HOSTS.map((host) => ({ row: host.name, column, body: firstStart(host, SCENARIOS[column]) }))),
]
  .filter(({ row, column }) => chosen(row, column))
  .map(({ row, column, body }) => () => cell(row, column, SCENARIOS[column], body));
await inParallel(jobs);
table.print([...HOSTS.map(({ name }) => name), ...EXTRA.map(([row]) => row)], ["waits", "held", ...COLUMNS]);
process.exit(failed === 0 ? 0 : 1);
