// How sdks.mjs drives a library: a command on each line of stdin (`connect`,
// `tools`, `call NAME`, `close`), an answer in JSON on a line of stdout.

import { createInterface } from "node:readline";

/** The adapter that the host starts. */
export const [command, ...args] = process.argv.slice(2);

export const names = (tools) => tools.map((tool) => tool.name);
export const text = ({ content }) => content.map((part) => part.text ?? "").join("\n");

/** `host` has `connect`, `tools` (names), `call` (text) and `close`. */
export async function drive(host) {
  const say = (answer) => process.stdout.write(`${JSON.stringify(answer)}\n`);
  say({ value: "ready" });
  for await (const line of createInterface({ input: process.stdin })) {
    const [what, ...rest] = line.split(" ");
    const began = performance.now();
    try {
      const value = await host[what](...rest);
      say({ value: value ?? null, ms: performance.now() - began });
    } catch (error) {
      say({ error: error?.stack ?? String(error), message: error?.message ?? String(error), ms: performance.now() - began });
    }
  }
  process.exit(0);
}
