// Third-party protected MCP servers, each with the authorization server that it
// ships with or is meant for. The official inspector reaches them through the
// adapter with default flags and an empty home folder. The inspector lists the
// tools once and exits, so the first answer must hold the server's own tools.
//
//   node stacks.mjs <adapter> [NAME...]
//
// Prints one line per check (`ok ...` / `FAIL ...`) and exits 1 if any failed.
// ADAPTER_FLAGS adds flags to the adapter: with `--start wait` only a broken stack or sign-in fails.

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { check, equals, failed, must } from "./checks.mjs";
import { startPerson } from "./person.mjs";
import { inspect } from "./programs.mjs";
import { STACKS } from "./stacks/stacks.mjs";

const [adapter, ...chosen] = process.argv.slice(2);
const unknown = chosen.filter((name) => !(name in STACKS));
if (!adapter || unknown.length > 0) {
  if (unknown.length > 0) console.error(`unknown: ${unknown.join(" ")}; known: ${Object.keys(STACKS).join(" ")}`);
  console.error("usage: node stacks.mjs <adapter> [NAME...]");
  process.exit(2);
}
const flags = process.env.ADAPTER_FLAGS?.split(" ").filter(Boolean) ?? [];

/** How long a person takes from the moment the tab opens, in ms. */
const PERSON_TAKES = [1_000, 8_000];
/** Stacks that run at the same time. */
const AT_ONCE = 2;
/** How long a stack may take to start, and the inspector to list the tools, in ms. */
const START_LIMIT = 60_000;
const LIST_LIMIT = 60_000;

const INITIALIZE = { protocolVersion: "2025-11-25", capabilities: {}, clientInfo: { name: "stacks-check", version: "1.0.0" } };

const folder = await mkdtemp(path.join(tmpdir(), "stacks-"));
// The inspector keeps its state here; each run of the adapter gets an empty home folder.
process.env.HOME = await mkdtemp(path.join(folder, "inspector-"));

async function stackChecks(name, { tools, start }) {
  let stack;
  const started = await check(
    `stacks: ${name}: refuses a request without a token`,
    async () => {
      stack = await start();
      const response = await fetch(stack.url, {
        method: "POST",
        headers: { "content-type": "application/json", accept: "application/json, text/event-stream" },
        body: JSON.stringify({ jsonrpc: "2.0", id: 1, method: "initialize", params: INITIALIZE }),
      });
      await response.body?.cancel();
      equals(response.status, 401, "the status");
    },
    { limitMs: START_LIMIT, told: () => stack?.told() ?? "" },
  );
  // In sequence, because two instances at one server wait for each other's sign-in.
  for (const takes of started ? PERSON_TAKES : []) await listChecks(name, tools, stack, takes);
  await stack?.stop();
}

async function listChecks(name, tools, stack, takes) {
  const home = await mkdtemp(path.join(folder, "home-"));
  const person = await startPerson(home);
  person.takes = takes;
  await check(
    `stacks: ${name}: the inspector lists its tools, with a person who takes ${takes / 1_000} s`,
    async () => {
      const env = { HOME: home, BROWSER: person.browser };
      const listed = await inspect(home, [adapter, stack.url, ...flags], env, "--method", "tools/list");
      equals(listed.tools.map((tool) => tool.name).sort(), tools, "the tools");
      equals(person.tabs.length, 1, "tabs");
      equals(person.pages.map((page) => page.status), [200], "the page at the end");
      return listed.tools.length === 1 ? "1 tool" : `${listed.tools.length} tools`;
    },
    { limitMs: LIST_LIMIT, told: () => [stack.told(), ...person.told()].join("\n") },
  );
  person.stop();
}

const waiting = Object.entries(STACKS).filter(([name]) => chosen.length === 0 || chosen.includes(name));
must(waiting.length > 0, "a stack");
await Promise.all(
  Array.from({ length: AT_ONCE }, async () => {
    for (let next; (next = waiting.shift()); ) await stackChecks(...next);
  }),
);
await rm(folder, { recursive: true, force: true });
process.exit(failed === 0 ? 0 : 1);
