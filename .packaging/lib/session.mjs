// A program with pipes, as a host starts it.

import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, mkdtempSync, openSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { endAll, gone, mark } from "./processes.mjs";

/** How long an answer may take, in ms: an `npx` that has nothing yet asks the registry first. */
const ANSWER_LIMIT = 30_000;

/** The sessions that have not ended. */
const open = new Set();

/** Ends what a failed check has left. */
export function endSessions() {
  for (const session of open) session.kill();
}

export class Session {
  stderr = "";
  #waiting = new Map();
  #rest = "";
  #id = 0;

  constructor([command, ...args], env) {
    this.mark = mark();
    const [reader, writer] = pipe();
    this.stdin = writer;
    this.started = performance.now();
    this.child = spawn(command, args, { env: { ...env, ...this.mark }, stdio: [reader, "pipe", "pipe"] });
    closeSync(reader);
    open.add(this);
    this.exited = once(this.child, "exit").then(([code, signal]) => ({ code, signal }));
    this.child.stderr.setEncoding("utf8").on("data", (text) => (this.stderr += text));
    this.child.stdout.setEncoding("utf8").on("data", (text) => this.#read(text));
  }

  #read(text) {
    const lines = (this.#rest + text).split("\n");
    this.#rest = lines.pop();
    for (const line of lines) {
      const message = JSON.parse(line);
      this.#waiting.get(message.id)?.(message);
    }
  }

  #send(message) {
    writeSync(this.stdin, `${JSON.stringify({ jsonrpc: "2.0", ...message })}\n`);
  }

  #closeStdin() {
    if (this.stdin !== undefined) closeSync(this.stdin);
    this.stdin = undefined;
  }

  /** Ends all of its processes. */
  kill() {
    open.delete(this);
    endAll(this.mark);
    this.#closeStdin();
  }

  /** The result of a request. */
  async ask(method, params) {
    const id = (this.#id += 1);
    const answer = new Promise((resolve) => this.#waiting.set(id, resolve));
    this.#send({ id, method, params });
    const limit = sleep(ANSWER_LIMIT, undefined, { ref: false }).then(() => "no answer");
    const message = await Promise.race([answer, this.exited.then(() => "no answer, the program has ended"), limit]);
    if (!message.result) throw new Error(`${method}: ${message.error?.message ?? message}. ${this.stderr}`);
    return message.result;
  }

  /** The handshake, as a host does it; how long it took from the start, in ms. */
  async open() {
    const clientInfo = { name: "package-check", version: "1.0.0" };
    await this.ask("initialize", { protocolVersion: "2025-11-25", capabilities: {}, clientInfo });
    const took = performance.now() - this.started;
    this.#send({ method: "notifications/initialized" });
    return took;
  }

  /** Closes stdin; how the program ends, and how long it takes until no process is left. */
  async close(limitMs) {
    this.#closeStdin();
    return this.#end(limitMs);
  }

  /** Sends a signal to the process that was started; its pipes stay open. */
  async signal(name, limitMs) {
    this.child.kill(name);
    return this.#end(limitMs);
  }

  async #end(limitMs) {
    const left = await gone(this.mark, limitMs);
    this.kill();
    return { ...(await this.exited), goneMs: left };
  }
}

/** A pipe's two ends. One that Node makes is closed as soon as the process ends that was started with it. */
function pipe() {
  const folder = mkdtempSync(path.join(tmpdir(), "pipe-"));
  const fifo = path.join(folder, "pipe");
  execFileSync("mkfifo", [fifo]);
  // Neither end can be opened alone without waiting for the other one.
  const both = openSync(fifo, "r+");
  const ends = [openSync(fifo, "r"), openSync(fifo, "w")];
  closeSync(both);
  rmSync(folder, { recursive: true });
  return ends;
}

/** Runs a program to its end, with nothing on stdin. */
export async function run([command, ...args], env, options = {}) {
  const child = spawn(command, args, { env, stdio: ["ignore", "pipe", "pipe"], ...options });
  const result = { out: "", err: "" };
  child.stdout.setEncoding("utf8").on("data", (text) => (result.out += text));
  child.stderr.setEncoding("utf8").on("data", (text) => (result.err += text));
  // A program that is not there has no exit code.
  const code = await new Promise((resolve) => {
    child.on("error", (error) => {
      result.err += error.message;
      resolve(null);
    });
    child.on("close", resolve);
  });
  return { code, ...result };
}

/** Runs a program that must succeed; what it prints. */
export async function succeed(command, env, options) {
  const { code, out, err } = await run(command, env, options);
  if (code !== 0) throw new Error(`${command.join(" ")} ended with ${code}: ${out}${err}`);
  return out;
}
