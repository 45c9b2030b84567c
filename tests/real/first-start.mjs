// What a host sees at its first start, with the time limits of real hosts: it
// ends a program that has not answered `initialize` after 30 s, and a request
// after 60 s. The official SDK client is the host.
//
//   node first-start.mjs <adapter>
//
// Prints one line per check (`ok ...` / `FAIL ...`) and exits 1 if any failed.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:net";
import { mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { ToolListChangedNotificationSchema } from "@modelcontextprotocol/sdk/types.js";
import { check, equals, failed, must, until } from "./checks.mjs";
import { Session, forget } from "./programs.mjs";
import { world } from "./world.mjs";

const [adapter] = process.argv.slice(2);
if (!adapter) {
  console.error("usage: node first-start.mjs <adapter>");
  process.exit(2);
}

/** How long a host waits for the first answer, in ms. */
const START_LIMIT = 30_000;
/** How long the person takes: two password managers and a lost phone. */
const SIGN_IN_TAKES = 90_000;
/** How long the server is away. */
const SERVER_AWAY = 10_000;

const here = (file) => fileURLToPath(new URL(file, import.meta.url));
const EVERYTHING = here("./node_modules/@modelcontextprotocol/server-everything/dist/index.js");
const ms = (time) => `${Math.round(time)} ms`;
const names = ({ tools }) => tools.map((tool) => tool.name).sort();

/** A host that ends what does not answer in time, and notes how often its tools have changed. */
class Host extends Session {
  changes = 0;

  async start() {
    this.client.setNotificationHandler(ToolListChangedNotificationSchema, () => void (this.changes += 1));
    const timer = setTimeout(() => process.kill(this.transport.pid, "SIGKILL"), START_LIMIT);
    await this.open();
    clearTimeout(timer);
    return performance.now();
  }

  tools = async () => names(await this.client.listTools());
}

async function signInThatTakesLongerThanTheHostWaits() {
  const w = await world(adapter);
  w.person.manner = "leave";
  const host = new Host([adapter, w.server.mcpUrl], w.env);
  const told = () => `${w.told()}\n${host.stderr}`;
  const afterChallenge = (answered) => {
    const { at } = w.server.requests.find(({ status }) => status === 401);
    return `answered ${ms(answered - at)} after the challenge`;
  };

  await check("first start: a host that waits 30 s has its answer while the sign-in is open", async () => {
    const answered = await host.start();
    const { tools } = await host.client.listTools();
    equals(names({ tools }), ["mcp_remote_sign_in"], "the tools");
    must(tools[0].description.includes(w.person.tabs[0]), "the URL is in the tool's description", tools[0].description);
    equals(w.person.tabs.length, 1, "tabs");
    return afterChallenge(answered);
  }, { told });

  await check("first start: the tools are there after a sign-in of 90 s, without a restart", async () => {
    await sleep(SIGN_IN_TAKES);
    const page = await w.person.walk(w.person.tabs[0]);
    equals(page.status, 200, "the page at the end");
    await until(() => host.changes > 0, "tools/list_changed");
    equals(await host.tools(), ["read", "write"], "the tools");
    equals(await host.call("read"), "with mcp:read", "the tool");
    equals(w.person.tabs.length, 1, "tabs");
  }, { limitMs: SIGN_IN_TAKES + START_LIMIT, told });
  await host.close();

  await check("first start: a host that is signed out is shown the tools it knows, before the address to open", async () => {
    await forget(w.store, "tokens");
    w.server.requests.length = 0;
    const again = new Host([adapter, w.server.mcpUrl], w.env);
    const answered = await again.start();
    equals(await again.tools(), ["read", "write"], "the tools");
    await again.close();
    return afterChallenge(answered);
  }, { told });
  await w.stop();
}

async function serverThatIsDownAtTheStart() {
  const port = await freePort();
  const folder = await mkdtemp(path.join(tmpdir(), "down-"));
  const command = [adapter, `http://127.0.0.1:${port}/mcp`];
  const env = { MCP_REMOTE_CONFIG_DIR: path.join(folder, "store") };
  const host = new Host(command, env);
  const told = () => host.stderr;
  let server;

  await check("first start: a server that is down is told of, and its tools are there 10 s later without a restart", async () => {
    const began = performance.now();
    const answered = await host.start();
    equals(await host.tools(), ["mcp_remote_status"], "the tools");
    const said = await host.call("mcp_remote_status");
    must(said.includes(`127.0.0.1:${port}`), "the status names the server", said);
    const held = host.client.callTool({ name: "echo", arguments: { message: "held" } });
    await sleep(SERVER_AWAY);
    server = spawn(process.execPath, ["--import", here("./bind-loopback.mjs"), EVERYTHING, "streamableHttp"], {
      env: { PATH: process.env.PATH, HOME: process.env.HOME, PORT: String(port) },
      stdio: "ignore",
    });
    equals((await held).content[0].text, "Echo: held", "the call that was held");
    await until(() => host.changes > 0, "tools/list_changed");
    must((await host.tools()).includes("echo"), "the server's own tools", await host.tools());
    return `answered ${ms(answered - began)} after the start`;
  }, { limitMs: SERVER_AWAY + START_LIMIT, told });
  await host.close();
  server?.kill();
  if (server) await once(server, "exit");

  await check("first start: a known server that is down shows its tools", async () => {
    const again = new Host(command, env);
    const began = performance.now();
    const answered = await again.start();
    must((await again.tools()).includes("echo"), "the server's own tools", await again.tools());
    await again.close();
    return `answered ${ms(answered - began)} after the start`;
  }, { told });
}

async function freePort() {
  const server = createServer();
  await once(server.listen(0, "127.0.0.1"), "listening");
  const { port } = server.address();
  server.close();
  return port;
}

await Promise.all([signInThatTakesLongerThanTheHostWaits(), serverThatIsDownAtTheStart()]);
process.exit(failed === 0 ? 0 : 1);
