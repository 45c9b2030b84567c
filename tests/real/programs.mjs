// How the programs under test are started: by the official inspector, by the
// official SDK client, or by hand. Each is ended by its own handle.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFile, readdir, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { until } from "./checks.mjs";

const installed = (file) => fileURLToPath(new URL(`./node_modules/${file}`, import.meta.url));
const INSPECTOR = installed("@modelcontextprotocol/inspector/clients/launcher/build/index.js");
/** npm's mcp-remote. */
export const NPM = [process.execPath, installed("mcp-remote/dist/proxy.js")];

/** How long a program may run that ends by itself, in ms. */
const RUN_LIMIT = 25_000;

/** What runs, by process id: npm's mcp-remote in the middle of a sign-in outlives its host. */
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
process.on("SIGTERM", () => process.exit(143));

function start([command, ...args], env) {
  const child = spawn(command, args, { env: { ...surroundings(), ...env }, stdio: "pipe" });
  running.add(child.pid);
  child.once("exit", () => running.delete(child.pid));
  child.stdin.on("error", () => {});
  return child;
}

/** A host's own variables; the inspector's keychain is no part of this. */
const surroundings = () => ({ PATH: process.env.PATH, HOME: process.env.HOME, MCP_INSPECTOR_SECRET_STORE: "memory" });

/** Runs to the end, with `input` on stdin; `{ code, out, err }`. */
export async function run(command, env, input = "") {
  const child = start(command, env);
  const timer = setTimeout(() => child.kill("SIGKILL"), RUN_LIMIT);
  child.stdin.end(input);
  const result = { out: "", err: "" };
  child.stdout.setEncoding("utf8").on("data", (text) => (result.out += text));
  child.stderr.setEncoding("utf8").on("data", (text) => (result.err += text));
  [result.code] = await once(child, "close");
  clearTimeout(timer);
  return result;
}

/** One call by the inspector, which starts `command` with `env`; its result. */
export async function inspect(folder, command, env, ...call) {
  const config = path.join(folder, "servers.json");
  const [program, ...args] = command;
  await writeFile(config, JSON.stringify({ mcpServers: { it: { type: "stdio", command: program, args, env } } }));
  const asked = [process.execPath, INSPECTOR, "--cli", "--config", config, "--server", "it", "--format", "json", ...call];
  const { code, out, err } = await run(asked, {});
  if (code !== 0) throw new Error(`the inspector ended with ${code}: ${out} ${err}`);
  return JSON.parse(out).result;
}

/** A session held by the SDK client, which goes on until `close`. */
export class Session {
  constructor(command, env) {
    this.stderr = "";
    this.client = new Client({ name: "authorization-check", version: "1.0.0" });
    this.transport = new StdioClientTransport({ command: command[0], args: command.slice(1), stderr: "pipe", env });
    this.transport.stderr.on("data", (chunk) => (this.stderr += chunk));
  }

  /** Starts the program and initializes; as long as that takes. */
  async open() {
    const connected = this.client.connect(this.transport, { timeout: 60_000 });
    const { pid } = this.transport;
    running.add(pid);
    await connected;
    return this;
  }

  /** Calls a tool; the text of the answer. */
  async call(name) {
    const { content } = await this.client.callTool({ name, arguments: {} });
    return content[0].text;
  }

  /** Waits for a line on its stderr. */
  said(pattern, limitMs) {
    return until(() => pattern.test(this.stderr), `${pattern} on stderr`, limitMs);
  }

  /** As a host does: it ends stdin and waits, and only then kills. */
  async close() {
    const { pid } = this.transport;
    await this.client.close();
    running.delete(pid);
  }
}

/** A program whose pipe is in our hands. */
export class ByHand {
  constructor(command, env) {
    this.stderr = "";
    this.messages = [];
    this.child = start(command, env);
    this.child.stderr.setEncoding("utf8").on("data", (text) => (this.stderr += text));
    let rest = "";
    this.child.stdout.setEncoding("utf8").on("data", (text) => {
      const lines = (rest + text).split("\n");
      rest = lines.pop();
      this.messages.push(...lines.map((line) => JSON.parse(line)));
    });
  }

  send(message) {
    this.child.stdin.write(`${JSON.stringify({ jsonrpc: "2.0", ...message })}\n`);
  }

  initialize(id) {
    const clientInfo = { name: "authorization-check", version: "1.0.0" };
    this.send({ id, method: "initialize", params: { protocolVersion: "2025-11-25", capabilities: {}, clientInfo } });
  }

  /** The answer to a request. */
  async answer(id, limitMs) {
    const find = () => this.messages.find((message) => message.id === id);
    await until(find, `the answer to ${id}`, limitMs);
    return find();
  }

  get runs() {
    return this.child.exitCode === null && this.child.signalCode === null;
  }

  async end() {
    if (!this.runs) return;
    this.child.kill("SIGKILL");
    await once(this.child, "exit");
  }
}

/** What is stored in a folder for the one server in it: `tokens`, `client_info`, or another name. */
export async function stored(folder, name) {
  const file = await storedFile(folder, name);
  return file && JSON.parse(await readFile(file, "utf8"));
}

/** Removes it. */
export const forget = async (folder, name) => rm(await storedFile(folder, name));

async function storedFile(folder, name) {
  const files = await readdir(path.join(folder, "mcp-remote-v1"));
  const file = files.find((file) => new RegExp(`^[0-9a-f]{32}_${name}\\.json$`).test(file));
  return file && path.join(folder, "mcp-remote-v1", file);
}
