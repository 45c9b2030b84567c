// The stacks: how to start each one, and the tools that it has. The files beside
// this one only configure published packages, as each project's documentation
// shows; no package is changed.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { startProtectedServer } from "../protected-server.mjs";

const here = (file) => fileURLToPath(new URL(file, import.meta.url));

/** How long a program may take to listen, in ms: Python's frameworks take seconds where the machine is busy. */
const LISTEN_LIMIT = 50_000;
/** What is kept of a program's output, in characters. */
const OUTPUT_KEPT = 20_000;
/** How long it may take to end, in ms. */
const STOP_LIMIT = 2_000;

/** A command for a Node script, kept on 127.0.0.1 because some examples listen on every interface. */
const node = (script, ...args) => [process.execPath, "--import", here("../bind-loopback.mjs"), here(script), ...args];
/** A command for a Python script, or with `-m` for a module, with the packages of requirements.txt. */
const python = (...args) => [here("./.venv/bin/python"), ...args.map((arg) => (arg.endsWith(".py") ? here(arg) : arg))];
/** The same with version 1 of the Python SDK, because some frameworks do not run with version 2. */
const pythonMcp1 = (script) => [here("./.venv-mcp1/bin/python"), here(script)];
/** The identity provider behind a Python framework. */
const identity = (options) => [node("./identity_server.mjs"), { IDENTITY: JSON.stringify(options) }];

/**
 * The stacks by name: `tools`, sorted, and `start`, which returns the URL of the MCP server (`url`),
 * the output of the programs (`told`) and a function that stops them (`stop`).
 */
export const STACKS = {
  "oidc-provider": {
    tools: ["read", "write"],
    async start() {
      const server = await startProtectedServer();
      return { url: server.mcpUrl, told: () => "", stop: server.stop };
    },
  },
  "typescript-sdk": {
    tools: ["collect-user-info", "collect-user-info-task", "delay", "greet", "list-files", "multi-greet", "start-notification-stream"],
    start: programs("localhost", () => [
      [node("./node_modules/@modelcontextprotocol/sdk/dist/esm/examples/server/simpleStreamableHttp.js", "--oauth", "--oauth-strict")],
    ]),
  },
  "typescript-sdk-proxy": { tools: ["who"], start: programs("localhost", () => [[node("./typescript_sdk_proxy.mjs")]]) },
  "typescript-sdk-2-better-auth": { tools: ["who"], start: programs("localhost", () => [[node("./better_auth.mjs")]]) },
  "hono-mcp": { tools: ["who"], start: programs("127.0.0.1", () => [[node("./hono_mcp.mjs")]]) },
  "fastmcp-npm": { tools: ["who"], start: programs("127.0.0.1", () => [[node("./fastmcp_npm.mjs")]]) },
  "mcp-framework": { tools: ["who"], start: programs("127.0.0.1", () => [[node("./mcp_framework/start.mjs")]]) },
  "workers-oauth-provider": { tools: ["who"], start: programs("127.0.0.1", () => [[node("./workers.mjs")]]) },
  "python-sdk": {
    tools: ["get_time"],
    start: programs("localhost", (port, authPort) => [
      [python("-m", "mcp_simple_auth.auth_server", "--port", authPort)],
      [python("-m", "mcp_simple_auth.server", "--port", port, "--auth-server", `http://localhost:${authPort}`, "--oauth-strict")],
    ]),
  },
  "fastmcp-in-memory": { tools: ["add", "who"], start: programs("127.0.0.1", () => [[python("./fastmcp_in_memory.py")]]) },
  "fastmcp-oidc-proxy": {
    tools: ["multiply"],
    start: programs("127.0.0.1", (port) => [
      identity({ clientId: "fastmcp", clientSecret: "of no worth", redirectUris: [`http://127.0.0.1:${port}/auth/callback`], resources: [`http://127.0.0.1:${port}/mcp`] }),
      [python("./fastmcp_oidc_proxy.py")],
    ]),
  },
  "fastmcp-remote": {
    tools: ["divide"],
    start: programs("127.0.0.1", (port) => [
      identity({ registration: true, resources: [`http://127.0.0.1:${port}/mcp`] }),
      [python("./fastmcp_remote.py")],
    ]),
  },
  "fastapi-mcp": {
    tools: ["who"],
    start: programs("localhost", () => [[node("./sdk_authorization_server.mjs")], [pythonMcp1("./fastapi_mcp_server.py")]]),
  },
  django: { tools: ["who"], start: programs("127.0.0.1", () => [[pythonMcp1("./django_server.py")]]) },
  authlib: { tools: ["who"], start: programs("127.0.0.1", () => [[python("./authlib_server.py")]]) },
};

/** Starts `commands` in order, each as soon as the previous one listens; the last one is the MCP server. */
function programs(host, commands) {
  return async () => {
    const [port, authPort] = await freePorts(2);
    const url = `http://${host}:${port}/mcp`;
    const running = [];
    let output = "";
    const stop = async () => void (await Promise.all(running.map((program) => program.stop())));
    const keep = (text) => (output = (output + text).slice(-OUTPUT_KEPT));
    const list = commands(port, authPort);
    try {
      for (const [index, [command, more]] of list.entries()) {
        const program = startProgram(command, { ...surroundings(port, authPort), ...more }, keep);
        running.push(program);
        await listening(index === list.length - 1 ? url : `http://${host}:${authPort}/`, program);
      }
    } catch (error) {
      await stop();
      throw new Error(`${error.message}: ${output}`);
    }
    return { url, told: () => output, stop };
  };
}

const surroundings = (port, authPort) => ({
  PATH: process.env.PATH,
  HOME: process.env.HOME,
  TMPDIR: process.env.HOME,
  // setup.sh puts the example of the Python SDK here, because it is not part of the installed package.
  PYTHONPATH: here("./.venv/examples"),
  PYTHONUNBUFFERED: "1",
  PYTHONDONTWRITEBYTECODE: "1",
  PORT: port,
  AUTH_PORT: authPort,
  // The names that the TypeScript SDK's example uses.
  MCP_PORT: port,
  MCP_AUTH_PORT: authPort,
});

function startProgram([command, ...args], env, keep) {
  const child = spawn(command, args, { env, cwd: env.HOME, stdio: ["ignore", "pipe", "pipe"] });
  // SIGTERM first, so that a program can stop its own children.
  const terminate = () => child.kill("SIGTERM");
  process.once("exit", terminate);
  child.stdout.setEncoding("utf8").on("data", keep);
  child.stderr.setEncoding("utf8").on("data", keep);
  const program = { ended: false };
  const close = new Promise((resolve) => {
    child.once("error", (error) => resolve(keep(error.message)));
    child.once("close", resolve);
  }).then(() => (program.ended = true));
  program.stop = async () => {
    process.removeListener("exit", terminate);
    terminate();
    const timer = setTimeout(() => child.kill("SIGKILL"), STOP_LIMIT);
    await close;
    clearTimeout(timer);
  };
  return program;
}

async function listening(url, program) {
  const deadline = Date.now() + LISTEN_LIMIT;
  while (!(await answers(url))) {
    if (program.ended || Date.now() > deadline) throw new Error(`it does not listen at ${url}`);
    await sleep(50);
  }
}

const answers = (url) =>
  fetch(url).then(
    async (response) => {
      await response.body?.cancel();
      return true;
    },
    () => false,
  );

/** Ports that are free now, and different. */
async function freePorts(count) {
  const servers = Array.from({ length: count }, () => createServer().listen(0, "127.0.0.1"));
  await Promise.all(servers.map((server) => once(server, "listening")));
  const ports = servers.map((server) => String(server.address().port));
  for (const server of servers) server.close();
  return ports;
}
