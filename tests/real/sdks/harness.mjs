// What the two scripts here share: one cell of their tables is one host, one
// server, one person who takes some seconds, and an empty store.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { createServer as createSocketServer } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { createMcpExpressApp } from "@modelcontextprotocol/sdk/server/express.js";
import { McpServer } from "@modelcontextprotocol/sdk/server/mcp.js";
import { StreamableHTTPServerTransport } from "@modelcontextprotocol/sdk/server/streamableHttp.js";
import { must, until } from "../checks.mjs";
import { startPerson } from "../person.mjs";
import { startProtectedServer } from "../protected-server.mjs";

/** How many cells run at a time; they mostly sleep. */
const AT_A_TIME = 6;
/** How long after the start the server is up that is down at first, in seconds. */
export const AWAY = 10;
/** What a machine with other work may add, in seconds. */
export const SLACK = 1.5;
/** What a hold may be shorter than the table says, in seconds. */
export const EARLY = 0.5;

/** The real tools of the protected server, and of the plain one. */
const REAL = ["read", "write"];
export const isReal = (tools) => JSON.stringify([...tools].sort()) === JSON.stringify(REAL);
export const isPlaceholder = (tools) => tools.length === 1 && /^mcp_remote_(sign_in|status)$/.test(tools[0]);

export const seconds = (ms) => (ms / 1000).toFixed(1);
export const now = () => performance.now();

/** The scenarios by column. `takes`: seconds from the tab to the end of the sign-in. */
export const SCENARIOS = {
  "3 s": { takes: 3 },
  "8 s": { takes: 8 },
  "15 s": { takes: 15 },
  "40 s": { takes: 40 },
  "signed in": { signedIn: true },
  "down 10 s": { down: true },
};

/** A folder with an adapter in it that notes each of its starts, and knows nothing of our surroundings. */
async function installed(adapter, folder, { browser = "/bin/false", name = "adapter" } = {}) {
  const home = path.join(folder, `${name}-home`);
  const store = path.join(folder, `${name}-store`);
  const file = path.join(folder, name);
  const starts = `${file}.starts`;
  const log = `${file}.log`;
  await mkdir(home, { recursive: true });
  await writeFile(starts, "");
  await writeFile(log, "");
  const env = { PATH: process.env.PATH, HOME: home, MCP_REMOTE_CONFIG_DIR: store, BROWSER: browser };
  const assignments = Object.entries(env).map(([key, value]) => `${key}='${value}'`).join(" ");
  await writeFile(
    file,
    `#!/usr/bin/env bash\necho "$$" >>'${starts}'\n` +
      `exec env -i ${assignments} '${adapter}' "$@" 2>>'${log}'\n`,
  );
  await chmod(file, 0o755);
  return {
    file,
    env,
    log: () => readFile(log, "utf8"),
    starts: async () => (await readFile(starts, "utf8")).split("\n").filter(Boolean).map(Number),
    /** The process ids of starts that still run. */
    running: async function () {
      return (await this.starts()).filter(isAlive);
    },
  };
}

function isAlive(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

/**
 * The surroundings of one cell. `url` is the server's; `person.tabs` are the tabs; `available()` is
 * when the server had nothing more against the host (a time of `now()`), or undefined.
 */
export async function surroundings(adapter, scenario) {
  const folder = await mkdtemp(path.join(tmpdir(), "sdks-"));
  const person = await startPerson(folder);
  let availableAt;
  let server;
  let url;
  const away = new AbortController();
  if (scenario.down) {
    const port = await freePort();
    url = `http://127.0.0.1:${port}/mcp`;
  } else {
    server = await startProtectedServer();
    url = server.mcpUrl;
    signsInAfter(person, scenario.takes ?? 0, () => (availableAt ??= now()));
  }
  const install = await installed(adapter, folder, { browser: person.browser });
  const installs = [install];
  const it = {
    url,
    person,
    install,
    /** For another user of the machine, who has the same person at the browser. */
    async installAnother() {
      installs.push(await installed(adapter, folder, { browser: person.browser, name: "another" }));
      return installs.at(-1);
    },
    available: () => availableAt,
    /** In seconds after `began`; less than none where it was available before. */
    availableAfter: (began) => ((availableAt ?? 0) - began) / 1000,
    /** From here the time of the server that is down counts. */
    async begin() {
      if (!scenario.down) return;
      sleep(AWAY * 1000, undefined, { signal: away.signal })
        .then(() => startPlainServer(new URL(url).port))
        .then((up) => {
          server = up;
          availableAt = now();
        })
        .catch(() => {});
    },
    /** Signs in by `mcp-remote login`, as a person has who has used the server before. */
    async signIn() {
      const login = spawn(install.file, ["login", url], { stdio: "ignore" });
      const [code] = await once(login, "exit");
      must(code === 0, "mcp-remote login succeeds", code);
      person.tabs.length = 0;
    },
    told: async () =>
      [
        `tabs ${person.tabs.length}`,
        ...person.pages.map((page) => `page ${page.status} ${page.url ?? page.address} ${page.error ?? ""}`),
        ...(server?.requests ?? []).map(({ status, method, path: at, rpc }) => [status ?? "...", method, at, rpc].join(" ")),
        `starts ${(await install.starts()).length}`,
        ...(await Promise.all(installs.map(({ log }) => log()))),
      ].join("\n"),
    async stop() {
      away.abort();
      person.stop();
      await server?.stop();
      for (const each of installs) {
        for (const pid of await each.running()) process.kill(pid, "SIGKILL");
      }
      await rm(folder, { recursive: true, force: true });
    },
  };
  return it;
}

/** The person ends each sign-in that many seconds after its tab was opened. */
export function signsInAfter(person, takes, done) {
  person.manner = "leave";
  person.desk.on("tab", async (address) => {
    await sleep(takes * 1000);
    try {
      const page = await person.walk(address);
      if (page.status === 200) done();
    } catch (error) {
      person.pages.push({ address, error: [error.message, error.cause?.message].filter(Boolean).join(": ") });
    }
  });
}

/** A server without authorization, with the tools of the protected one. */
async function startPlainServer(port) {
  const app = createMcpExpressApp();
  const sessions = new Map();
  app.all("/mcp", async (request, response) => {
    let transport = sessions.get(request.headers["mcp-session-id"]);
    if (!transport) {
      transport = new StreamableHTTPServerTransport({
        sessionIdGenerator: () => crypto.randomUUID(),
        onsessioninitialized: (id) => void sessions.set(id, transport),
      });
      const server = new McpServer({ name: "plain", version: "1.0.0" });
      for (const name of REAL) {
        server.registerTool(name, { description: name }, () => ({ content: [{ type: "text", text: "with nothing" }] }));
      }
      await server.connect(transport);
    }
    await transport.handleRequest(request, response, request.body);
  });
  const http = createServer(app);
  await once(http.listen(port, "127.0.0.1"), "listening");
  return {
    stop() {
      http.close();
      http.closeAllConnections();
    },
  };
}

async function freePort() {
  const server = createSocketServer();
  await once(server.listen(0, "127.0.0.1"), "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return port;
}

/**
 * What the first list must be: "real" where the server was available before the hold is over,
 * "placeholder" where it was not, "either" where it is too close to tell. `at`: when it was available.
 */
export function expectedFirst(hold, at, scenario) {
  if (scenario.signedIn) return "real";
  // What is down is tried again from time to time.
  const noticedAfter = scenario.down ? 6 : 1;
  if (at + noticedAfter <= sum(hold)) return "real";
  return at >= sum(hold) + SLACK ? "placeholder" : "either";
}

export const sum = ([first, second]) => first + second;

/** One tab; none where somebody is signed in or nobody has to be. */
export const tabsOf = (scenario) => (scenario.takes === undefined ? 0 : 1);

/** The server has nothing more against the host. */
export async function available(it) {
  while (it.available() === undefined) {
    const lost = it.person.pages.find(({ error }) => error);
    must(!lost, "the sign-in comes to its end", lost);
    await sleep(50);
  }
}

/** What was not as it must be, so that a cell goes on to its end. */
export class Faults {
  #faults = [];

  unless(condition, what, seen) {
    try {
      must(condition, what, seen);
    } catch (error) {
      this.#faults.push(error.message);
    }
  }

  throw() {
    if (this.#faults.length > 0) throw new Error(this.#faults.join("; "));
  }
}

/** The processes of a host that has left are gone. */
export async function mustHaveEnded({ install }) {
  await until(async () => (await install.running()).length === 0, "the end of every adapter", 6_000);
}

/** Runs the jobs, some at a time, in order. */
export async function inParallel(jobs) {
  const queue = [...jobs];
  const worker = async () => {
    for (let job = queue.shift(); job; job = queue.shift()) await job();
  };
  await Promise.all(Array.from({ length: AT_A_TIME }, worker));
}

/** A table of what was seen, as Markdown. */
export class Table {
  #rows = new Map();

  set(row, column, text) {
    if (!this.#rows.has(row)) this.#rows.set(row, {});
    this.#rows.get(row)[column] = text;
    return this;
  }

  add(row, column, text) {
    this.set(row, column, `${this.#rows.get(row)?.[column] ?? ""}${text}`);
  }

  print(rows, columns) {
    const line = (cells) => `# | ${cells.join(" | ")} |`;
    console.log(line(["host", ...columns]));
    console.log(line(["---", ...columns.map(() => "---")]));
    for (const row of rows) {
      const cells = this.#rows.get(row);
      if (cells) console.log(line([row, ...columns.map((column) => cells[column] ?? "")]));
    }
  }
}
