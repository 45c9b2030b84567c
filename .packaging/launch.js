"use strict";

// What the npm package runs: it starts the program of the platform package, and passes everything on.
// A signal to this process, its own end and the exit code of the program behave as if the program ran alone.

const { spawn } = require("node:child_process");
const { accessSync, constants } = require("node:fs");

/** How often to look whether the process that started this one still runs, in ms. */
const LOOK_EVERY = 500;

const { name: PACKAGE, optionalDependencies: PLATFORMS } = require("./package.json");

/** The program, or nothing after a sentence on stderr. */
function find() {
  const platform = `${process.platform}-${process.arch}`;
  const name = `${PACKAGE}-${platform}`;
  if (!(name in PLATFORMS)) {
    return fail(`there is no package for ${platform}. Build mcp-remote with Rust: cargo install --locked mcp-remote`);
  }
  try {
    const program = require.resolve(`${name}/${process.platform === "win32" ? "mcp-remote.exe" : "mcp-remote"}`);
    accessSync(program, constants.X_OK);
    return program;
  } catch {
    return fail(`the package ${name} is missing. Install ${PACKAGE} again, without --omit=optional or --no-optional`);
  }
}

function fail(sentence) {
  console.error(`mcp-remote: ${sentence}`);
  process.exitCode = 1;
}

/** Starts the program under the name that the user has typed. */
module.exports = function launch(name) {
  const program = find();
  if (!program) return;
  const args = process.argv.slice(2);
  if (process.platform !== "win32" && process.execve) {
    // The program takes the place of this process.
    process.execve(program, [name, ...args], process.env);
  }
  const host = process.ppid;
  let child;
  // Before the program starts, which may answer its host before this process goes on.
  for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"]) {
    // On Windows, a console tells each of its processes itself, and a signal ends a process at once.
    process.on(signal, () => process.platform === "win32" || child.kill(signal));
  }
  // The program ends at once if this process is killed; another one that is gone may have a host that talks on.
  const env = { ...process.env, MCP_REMOTE_LAUNCHER: String(process.pid) };
  child = spawn(program, args, { argv0: name, env, stdio: "inherit", windowsHide: true });
  const timer = setInterval(() => isGone(host) && child.kill(), LOOK_EVERY);
  child.on("error", (error) => {
    clearInterval(timer);
    fail(`${child.spawnfile} cannot be started: ${error.message}`);
  });
  child.on("exit", (code, signal) => {
    clearInterval(timer);
    if (signal === null) process.exit(code);
    process.removeAllListeners(signal);
    process.kill(process.pid, signal);
  });
};

/** Whether the process that started this one has ended. Elsewhere than on Windows, another one has taken its place. */
function isGone(host) {
  if (process.platform !== "win32") return process.ppid !== host;
  try {
    process.kill(host, 0);
    return false;
  } catch (error) {
    return error.code === "ESRCH";
  }
}
