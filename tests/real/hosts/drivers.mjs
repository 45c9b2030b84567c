// How each host is configured, started and given a prompt. All of them find the adapter
// in their own configuration, in a home folder of their own.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import path from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const here = (file) => fileURLToPath(new URL(file, import.meta.url));
const host = (name) => here(`./node_modules/.bin/${name}`);
const INSPECTOR = here("../node_modules/@modelcontextprotocol/inspector/clients/launcher/build/index.js");
/** The program that the package `opencode-ai` would launch. */
const OPENCODE = here("./node_modules/opencode-linux-x64-baseline/bin/opencode");
const NEWER_NODE = here("../node_modules/node/bin/node");

/** How long a host may take to end after each request to do so, in ms. */
const END_LIMIT = 3_000;

/** What runs, by process group: a host's launcher and the program it launches. */
const running = new Set();
const kill = (pid, signal) => {
  try {
    process.kill(-pid, signal);
  } catch {
    // it has ended
  }
};
process.on("exit", () => running.forEach((pid) => kill(pid, "SIGKILL")));

/** A host under way: a child process in `home`, whose output is kept for a failed check. */
class Running {
  constructor(cell, command, env = {}) {
    this.output = "";
    const { home, proxy } = cell;
    this.child = spawn(command[0], command.slice(1), {
      cwd: cell.project,
      detached: true,
      env: {
        PATH: process.env.PATH,
        HOME: home,
        TMPDIR: cell.tmp,
        TERM: "xterm-256color",
        LANG: "C.UTF-8",
        // Nothing but loopback is reachable.
        HTTP_PROXY: proxy,
        HTTPS_PROXY: proxy,
        http_proxy: proxy,
        https_proxy: proxy,
        NO_PROXY: "127.0.0.1,localhost",
        no_proxy: "127.0.0.1,localhost",
        ...env,
      },
    });
    running.add(this.child.pid);
    this.ended = once(this.child, "exit")
      .catch((error) => (this.output += error.message))
      .then(() => running.delete(this.child.pid));
    this.child.stdin.on("error", () => {});
    this.child.stderr.setEncoding("utf8").on("data", (text) => (this.output += text));
    createInterface({ input: this.child.stdout }).on("line", (line) => {
      this.output += `${line.slice(0, 2_000)}\n`;
      this.onLine?.(line);
    });
  }

  get runs() {
    return running.has(this.child.pid);
  }

  write(value) {
    this.child.stdin.write(`${JSON.stringify(value)}\n`);
  }

  /** Speaks JSON-RPC with the host; requests of the host get an empty answer. */
  speakJsonRpc(envelope = {}) {
    this.pending = new Map();
    this.next = 0;
    this.envelope = envelope;
    this.onLine = (line) => {
      let message;
      try {
        message = JSON.parse(line);
      } catch {
        return;
      }
      if (message.method && message.id !== undefined) this.write({ ...envelope, id: message.id, result: {} });
      else if (!message.method) this.pending.get(message.id)?.(message);
    };
    return this;
  }

  async ask(method, params) {
    const id = (this.next += 1);
    const answered = new Promise((resolve) => this.pending.set(id, resolve));
    this.write({ ...this.envelope, id, method, params });
    const message = await Promise.race([answered, this.ended.then(() => ({ error: { message: "the host ended" } }))]);
    if (message.error) throw new Error(`${method}: ${JSON.stringify(message.error)}`);
    return message.result;
  }

  async stop() {
    const end = () => Promise.race([this.ended, new Promise((resolve) => setTimeout(resolve, END_LIMIT, "runs").unref())]);
    this.child.stdin.end();
    for (const signal of ["SIGTERM", "SIGKILL"]) {
      if (!this.runs) break;
      kill(this.child.pid, signal);
      await end();
    }
    kill(this.child.pid, "SIGKILL");
  }
}

async function configure(cell, file, content) {
  const target = path.join(cell.home, file);
  await mkdir(path.dirname(target), { recursive: true });
  await writeFile(target, typeof content === "string" ? content : JSON.stringify(content, null, 2));
  return target;
}

export async function freePort() {
  const server = createServer();
  await once(server.listen(0, "127.0.0.1"), "listening");
  const { port } = server.address();
  server.close();
  return port;
}

// A cell has `home`, `project` and `tmp`, folders of its own; `command` and `env`, the stdio server;
// `model` and `proxy`, URLs; and perhaps `limit`, the seconds that its user lets the host wait.
const server = ({ command: [command, ...args], env }) => ({ command, args, env });

/** A host that ends by itself. */
function single(it) {
  it.child.stdin.end();
  return Object.assign(it, { single: true });
}

/** A host in a terminal of its own, by util-linux's `script`. */
function terminal(cell, command, env) {
  const line = `stty cols 120 rows 40; exec ${command.map((word) => `'${word}'`).join(" ")}`;
  const it = new Running(cell, ["script", "--quiet", "--flush", "--return", "--command", line, "/dev/null"], env);
  it.type = (text) => it.child.stdin.write(text);
  return it;
}

// --- Claude Code ---------------------------------------------------------------

const claudeEnv = (cell) => ({
  ...(cell.limit && { MCP_TIMEOUT: String(cell.limit * 1_000) }),
  ANTHROPIC_BASE_URL: cell.model,
  ANTHROPIC_API_KEY: "of-no-worth",
  CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: "1",
  DISABLE_AUTOUPDATER: "1",
});

const claudeConfig = (cell) =>
  configure(cell, ".claude.json", {
    hasCompletedOnboarding: true,
    theme: "dark",
    customApiKeyResponses: { approved: ["of-no-worth"], rejected: [] },
    projects: { [cell.project]: { hasTrustDialogAccepted: true, hasCompletedProjectOnboarding: true } },
    mcpServers: { it: { type: "stdio", ...server(cell) } },
  });

/** One process that takes prompts as long as its input is open. */
async function claude(cell) {
  await claudeConfig(cell);
  const it = new Running(cell, [host("claude"), "-p", "--input-format", "stream-json", "--output-format", "stream-json", "--verbose"], claudeEnv(cell));
  it.prompt = () => it.write({ type: "user", message: { role: "user", content: [{ type: "text", text: "hello" }] } });
  it.prompt();
  return it;
}

/** The user interface, in a terminal. */
async function claudeTui(cell) {
  await claudeConfig(cell);
  const it = terminal(cell, [host("claude")], claudeEnv(cell));
  it.prompt = () => it.type("hello\r");
  return it;
}

async function claudePrompt(cell) {
  await claudeConfig(cell);
  return Object.assign(single(new Running(cell, [host("claude"), "-p", "hello"], claudeEnv(cell))), { leaves: true });
}

async function claudeList(cell) {
  await claudeConfig(cell);
  return single(new Running(cell, [host("claude"), "mcp", "list"], claudeEnv(cell)));
}

// --- Codex ---------------------------------------------------------------------

async function codexConfig(cell) {
  const { command, args, env } = server(cell);
  const strings = (values) => `[${values.map((value) => JSON.stringify(value)).join(", ")}]`;
  await configure(cell, ".codex/config.toml", `
model = "stand-in"
model_provider = "stand-in"
check_for_update_on_startup = false

[analytics]
enabled = false

[model_providers.stand-in]
name = "stand-in"
base_url = "${cell.model}/v1"
wire_api = "responses"

[mcp_servers.it]
command = ${JSON.stringify(command)}
args = ${strings(args)}
${cell.limit ? `startup_timeout_sec = ${cell.limit}` : ""}

[mcp_servers.it.env]
${Object.entries(env).map(([name, value]) => `${name} = ${JSON.stringify(value)}`).join("\n")}
`);
}

async function codex(cell) {
  await codexConfig(cell);
  const it = new Running(cell, [host("codex"), "app-server"]).speakJsonRpc();
  await it.ask("initialize", { clientInfo: { name: "hosts-check", title: "hosts check", version: "1.0.0" } });
  it.write({ method: "initialized" });
  const { thread } = await it.ask("thread/start", { cwd: cell.project, approvalPolicy: "never", sandbox: "read-only" });
  it.prompt = () => it.ask("turn/start", { threadId: thread.id, input: [{ type: "text", text: "hello" }] }).catch(() => {});
  return it;
}

async function codexExec(cell) {
  await codexConfig(cell);
  const it = single(new Running(cell, [host("codex"), "exec", "--skip-git-repo-check", "hello"]));
  return Object.assign(it, { leaves: true });
}

// --- Gemini CLI and Copilot CLI, as editors start them (Agent Client Protocol) -----

async function agentClient(cell, command, env) {
  const it = new Running(cell, command, env).speakJsonRpc({ jsonrpc: "2.0" });
  const session = (async () => {
    await it.ask("initialize", { protocolVersion: 1, clientCapabilities: {}, clientInfo: { name: "hosts-check", version: "1.0.0" } });
    const { sessionId } = await it.ask("session/new", { cwd: cell.project, mcpServers: [] });
    return sessionId;
  })();
  session.catch((error) => (it.output += `${error.message}\n`));
  it.prompt = async () =>
    it.ask("session/prompt", { sessionId: await session, prompt: [{ type: "text", text: "hello" }] }).catch(() => {});
  return it;
}

const geminiConfig = (cell) =>
  configure(cell, ".gemini/settings.json", {
    mcpServers: { it: server(cell) },
    security: { auth: { selectedType: "gemini-api-key" }, folderTrust: { enabled: false } },
    general: { enableAutoUpdate: false, enableAutoUpdateNotification: false },
    privacy: { usageStatisticsEnabled: false },
  });

const geminiEnv = (cell) => ({
  GEMINI_API_KEY: "of-no-worth",
  GOOGLE_GEMINI_BASE_URL: cell.model,
  GEMINI_CLI_NO_RELAUNCH: "true",
});

/** Named, so that no other model is asked which one to take. */
const GEMINI_MODEL = "gemini-2.5-flash";

async function gemini(cell) {
  await geminiConfig(cell);
  const it = await agentClient(cell, [process.execPath, host("gemini"), "--acp", "--skip-trust"], geminiEnv(cell));
  // One of the program and one of the session.
  return Object.assign(it, { connections: 2 });
}

async function geminiPrompt(cell) {
  await geminiConfig(cell);
  return single(new Running(cell, [process.execPath, host("gemini"), "--skip-trust", "--model", GEMINI_MODEL, "-p", "hello"], geminiEnv(cell)));
}

const copilotConfig = (cell) =>
  configure(cell, ".copilot/mcp-config.json", { mcpServers: { it: { type: "local", tools: ["*"], ...server(cell) } } });

const copilotEnv = (cell) => ({
  COPILOT_OFFLINE: "true",
  COPILOT_PROVIDER_BASE_URL: `${cell.model}/v1`,
  COPILOT_PROVIDER_API_KEY: "of-no-worth",
  COPILOT_MODEL: "stand-in",
});

async function copilot(cell) {
  await copilotConfig(cell);
  const it = await agentClient(cell, [host("copilot"), "--acp", "--no-auto-update"], copilotEnv(cell));
  it.prompt();
  return it;
}

async function copilotPrompt(cell) {
  await copilotConfig(cell);
  return single(new Running(cell, [host("copilot"), "--no-auto-update", "--allow-all-tools", "-p", "hello"], copilotEnv(cell)));
}

// --- opencode --------------------------------------------------------------------

function opencodeConfig(cell) {
  const { command, args, env } = server(cell);
  return configure(cell, ".config/opencode/opencode.json", {
    autoupdate: false,
    share: "disabled",
    mcp: { it: { type: "local", command: [command, ...args], environment: env, ...(cell.limit && { timeout: cell.limit * 1_000 }) } },
    provider: {
      "stand-in": {
        npm: "@ai-sdk/openai-compatible",
        name: "stand-in",
        options: { baseURL: `${cell.model}/v1`, apiKey: "of-no-worth" },
        models: { "stand-in": { name: "stand-in" } },
      },
    },
  });
}

const opencodeEnv = { OPENCODE_DISABLE_AUTOUPDATE: "1", OPENCODE_DISABLE_MODELS_FETCH: "1" };

async function opencode(cell) {
  await opencodeConfig(cell);
  const serve = ["serve", "--hostname", "127.0.0.1", "--port", String(await freePort())];
  const it = new Running(cell, [OPENCODE, ...serve], opencodeEnv);
  it.onLine = (line) => {
    const url = line.match(/listening on (\S+)/)?.[1];
    // Answered when the servers of the project are connected.
    if (url) fetch(`${url}/mcp?directory=${encodeURIComponent(cell.project)}`).then((r) => r.text(), () => {});
  };
  return it;
}

async function opencodeRun(cell) {
  await opencodeConfig(cell);
  return single(new Running(cell, [OPENCODE, "run", "--model", "stand-in/stand-in", "hello"], opencodeEnv));
}

// --- inspector -------------------------------------------------------------------

async function inspector(cell) {
  const config = await configure(cell, "servers.json", { mcpServers: { it: { type: "stdio", ...server(cell) } } });
  const node = existsSync(NEWER_NODE) ? NEWER_NODE : process.execPath;
  const ask = ["--cli", "--config", config, "--server", "it", "--format", "json", "--method", "tools/list"];
  return single(new Running(cell, [node, INSPECTOR, ...ask], { MCP_INSPECTOR_SECRET_STORE: "memory" }));
}

export const drivers = {
  claude,
  "claude-tui": claudeTui,
  "claude-p": claudePrompt,
  "claude-mcp-list": claudeList,
  codex,
  "codex-exec": codexExec,
  gemini,
  "gemini-p": geminiPrompt,
  copilot,
  "copilot-p": copilotPrompt,
  opencode,
  "opencode-run": opencodeRun,
  inspector,
};
