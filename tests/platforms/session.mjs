// A host: starts an adapter over pipes as Node does, says initialize, calls a tool, closes the adapter's stdin and expects
// it to exit. Runs under Node for Linux and under Node for Windows.
//
//   node session.mjs COMMAND ARGUMENTS...
//
// With KEEP=1 it says "connected" after the tool's answer, and waits to be killed.

import { spawn } from "node:child_process";
import { createInterface } from "node:readline";

const LIMIT = 30_000; // ms; an emulated start takes a second
const [command, ...args] = process.argv.slice(2);
const since = Date.now();
const child = spawn(command, args, { stdio: ["pipe", "pipe", "inherit"], windowsHide: true });
const exited = new Promise((resolve) => child.on("exit", (code, signal) => resolve(code ?? signal)));
const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();

setTimeout(() => {
  console.error("the adapter does not answer or does not exit");
  child.kill("SIGKILL");
  process.exit(1);
}, LIMIT).unref();

function send(message) {
  child.stdin.write(`${JSON.stringify({ jsonrpc: "2.0", ...message })}\n`);
}

async function ask(id, method, params) {
  send({ id, method, params });
  for (;;) {
    const { value, done } = await lines.next();
    if (done) throw new Error(`the adapter ended with ${await exited} instead of answering ${method}`);
    const answer = JSON.parse(value);
    if (answer.id === id) return answer;
  }
}

const clientInfo = { name: "session", version: "1" };
const opened = await ask(0, "initialize", { protocolVersion: "2025-11-25", capabilities: {}, clientInfo });
if (process.env.EXPECT_CODE) {
  const code = opened.error?.data?.code;
  console.log(`error ${code}`);
  child.kill("SIGKILL");
  process.exit(code === process.env.EXPECT_CODE ? 0 : 1);
}
if (opened.result?.serverInfo.name !== "stub") throw new Error(`initialize was answered ${JSON.stringify(opened)}`);
const answered = Date.now() - since;
send({ method: "notifications/initialized" });
const called = await ask(1, "tools/call", { name: "add", arguments: { a: 17, b: 25 } });
if (called.result?.content[0].text !== "42") throw new Error(`add was answered ${JSON.stringify(called)}`);
if (process.env.KEEP) {
  console.log("connected");
  await exited;
}
const closed = Date.now();
child.stdin.end();
const code = await exited;
console.log(`first answer after ${answered} ms, exit ${code} ${Date.now() - closed} ms after the end of input`);
process.exit(code === 0 ? 0 : 1);
