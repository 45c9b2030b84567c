// What each group of checks has to itself: a protected server, a person, and an
// empty store, on ports of their own.

import { mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { startPerson } from "./person.mjs";
import { NPM, inspect } from "./programs.mjs";
import { startProtectedServer } from "./protected-server.mjs";

export async function world(adapter, options) {
  const server = await startProtectedServer(options);
  const folder = await mkdtemp(path.join(tmpdir(), "protected-"));
  const person = await startPerson(folder);
  const store = path.join(folder, "store");
  const env = { MCP_REMOTE_CONFIG_DIR: store, BROWSER: person.browser };
  // It waits for the person, as npm's does; what a host is answered meanwhile is for first-start.mjs.
  const ours = (...flags) => [adapter, server.mcpUrl, "--start", "wait", ...flags];
  return {
    server,
    person,
    store,
    env,
    /** The command of the adapter, and of npm's, with the same arguments. */
    ours,
    npms: (...flags) => [...NPM, server.mcpUrl, ...flags],
    /** One call by the inspector through the adapter. */
    ask: (flags, ...call) => inspect(folder, ours(...flags), env, ...call),
    /** What a failed check shows. */
    told: () =>
      [
        ...server.requests.map(line),
        ...server.grants.map((grant) => `grant ${JSON.stringify(grant)}`),
        ...person.told(),
      ].join("\n"),
    async stop() {
      person.stop();
      await server.stop();
    },
  };
}

/** A request in one line. */
export const line = ({ status, method, path, rpc }) => [status ?? "...", method, path, rpc].filter(Boolean).join(" ");

/** Prints what a program asked from its start to its request for the tools; the lines. */
export function showRequests(program, { requests }) {
  const asked = requests.slice(0, requests.findIndex(({ rpc }) => rpc === "tools/list") + 1);
  console.log(`# ${program}: ${asked.length} requests from cold start to the tools`);
  for (const request of asked) console.log(`#   ${request.server}: ${line(request)}`);
  return asked.map(line);
}
