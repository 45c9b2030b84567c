// The servers of both eras, and the functions that start programs. Each program is
// killed by its process ID.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";

/** How long one program may run, in ms. */
const RUN_LIMIT = 45_000;

export const here = (file) => fileURLToPath(new URL(file, import.meta.url));
export const python = (venv) => here(`./venvs/${venv}/bin/python`);
export const node = (...args) => [process.execPath, ...args];
const EVERYTHING = here("../node_modules/@modelcontextprotocol/server-everything/dist/index.js");

/** The temporary files of this run. */
export const folder = await mkdtemp(path.join(process.env.TMPDIR ?? tmpdir(), "eras-"));

// The servers.

const PAGE = "http://127.0.0.1/page";
const OWN = {
  answer: { name: "Ada" },
  tools: {
    echo: ["echo", { text: "héllo" }],
    ask: ["ask", {}],
    steps: ["steps", {}],
    change: ["change", {}],
    wait: ["wait", {}],
    sample: ["sample", {}],
    roots: ["roots", {}],
    url: ["url", { url: PAGE }],
    twice: ["twice", {}],
    log: ["log", {}],
    touch: ["touch", {}],
  },
  resource: "note://one",
  contents: '"text":"one"',
  prompt: { name: "greet", arguments: { name: "Zoë" } },
  prompted: "Hello Zoë",
  complete: { ref: { type: "ref/prompt", name: "greet" }, argument: { name: "name", value: "A" } },
  completed: '["Ada","Alan"]',
};
const TS1 = { ...OWN, tools: { ...OWN.tools, urlError: ["url-error", { url: PAGE }] } };
const TS2 = { ...OWN, tools: { ...OWN.tools, region: ["region", { region: "Zürich" }], list: ["list", {}] } };
const REFERENCE = {
  answer: { name: "Ada", check: true, integer: 7 },
  tools: {
    echo: ["echo", { message: "héllo" }],
    ask: ["trigger-elicitation-request", {}],
    steps: ["trigger-long-running-operation", { duration: 0.3, steps: 3 }],
    wait: ["trigger-long-running-operation", { duration: 20, steps: 1 }],
    sample: ["trigger-sampling-request", { prompt: "Say something" }],
    roots: ["get-roots-list", {}],
    url: ["trigger-url-elicitation", { url: PAGE }],
    urlError: ["trigger-url-elicitation", { url: PAGE, errorPath: true }],
    touch: ["toggle-subscriber-updates", {}],
    task: ["simulate-research-query", { topic: "eras" }],
  },
  resource: "demo://resource/static/document/features.md",
  contents: "text",
  prompt: { name: "args-prompt", arguments: { city: "Zürich" } },
  prompted: "Zürich",
  complete: { ref: { type: "ref/prompt", name: "completable-prompt" }, argument: { name: "department", value: "E" } },
  completed: "Engineering",
  resumes: true,
  // It asks for the roots 350 ms after the session starts. If a call of a modern host has to
  // carry that question, the call's progress pauses until the host answers.
  progressPauses: true,
};
/** A server with a tool whose `x-mcp-header` is invalid. */
export const BROKEN = { command: node(here("server-ts2.mjs"), "stateless", "broken") };
const everything = (kind) => node("--import", here("../bind-loopback.mjs"), EVERYTHING, kind);

export const SERVERS = {
  "TS 1": { speaks: "legacy", command: node(here("server-ts1.mjs")), ...TS1 },
  "everything http": { speaks: "legacy", command: everything("streamableHttp"), at: "/mcp", ...REFERENCE },
  // Nothing on the stream of HTTP+SSE says which call a request belongs to (`unrelated`).
  "everything sse": { speaks: "legacy", command: everything("sse"), at: "/sse", ...REFERENCE, unrelated: true },
  "py 1.30": { speaks: "legacy", command: [python("legacy"), here("server_sdk.py")], ...OWN },
  "FastMCP 2": { speaks: "legacy", command: [python("legacy"), here("server_fastmcp.py")], ...OWN },
  "TS 2": { speaks: "both", command: node(here("server-ts2.mjs")), ...TS2 },
  "py 2.3": { speaks: "both", command: [python("dual"), here("server_sdk.py")], ...OWN },
  "FastMCP 4": { speaks: "both", command: [python("dual"), here("server_fastmcp.py")], ...OWN },
  // With `--protocol modern`, because these servers accept `initialize`.
  "py 2.3 forced": { speaks: "modern", flags: ["--protocol", "modern"], command: [python("dual"), here("server_sdk.py")], ...OWN },
  "FastMCP 4 forced": { speaks: "modern", flags: ["--protocol", "modern"], command: [python("dual"), here("server_fastmcp.py")], ...OWN },
  "TS 2 reject": { speaks: "modern", command: node(here("server-ts2.mjs"), "reject"), ...TS2 },
};

// Processes.

const running = new Set();
process.on("exit", () => {
  for (const pid of running) {
    try {
      process.kill(pid, "SIGKILL");
    } catch {
      // it has ended
    }
  }
});
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => process.exit(1));

export function start([command, ...args], env) {
  const child = spawn(command, args, { env: { PATH: process.env.PATH, PYTHONDONTWRITEBYTECODE: "1", ...env }, stdio: ["ignore", "pipe", "pipe"] });
  running.add(child.pid);
  child.once("exit", () => running.delete(child.pid));
  child.out = "";
  child.err = "";
  child.stdout.setEncoding("utf8").on("data", (text) => (child.out += text));
  child.stderr.setEncoding("utf8").on("data", (text) => (child.err += text));
  return child;
}

export async function run(command, env) {
  const child = start(command, env);
  const timer = setTimeout(() => child.kill("SIGKILL"), RUN_LIMIT);
  const [code] = await once(child, "close");
  clearTimeout(timer);
  return { code, out: child.out, err: child.err };
}

/** Starts a server and returns its URL. */
export async function startServer({ command, at }) {
  // The reference server does not print its port, so it cannot listen on port 0.
  const port = at && (await freePort());
  const child = start(command, { HOME: folder, PORT: port });
  const deadline = Date.now() + 30_000;
  const url = at && `http://127.0.0.1:${port}${at}`;
  const ready = async () => (at ? answers(port) : /^http:\S+$/m.test(child.out));
  while (!(await ready())) {
    if (child.exitCode !== null || Date.now() > deadline) throw new Error(`${command.join(" ")} did not start: ${child.err}`);
    await sleep(30);
  }
  const found = url ?? child.out.match(/^http:\S+$/m)[0];
  for (; Date.now() < deadline && !(await answers(new URL(found).port)); ) await sleep(30);
  return found;
}

async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return port;
}

const answers = (port) =>
  fetch(`http://127.0.0.1:${port}/nothing`, { signal: AbortSignal.timeout(2_000) }).then(
    () => true,
    () => false,
  );

/** Deletes the temporary files and exits. */
export async function end(code) {
  await rm(folder, { recursive: true, force: true });
  process.exit(code);
}
