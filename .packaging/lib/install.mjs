// Each package installed as a user would, into empty folders: how its program is started then.
//
// A way of starting is `{ name, command, env }`; `client` is the command of the second name.

import { chmodSync, copyFileSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import path from "node:path";
import { run, succeed } from "./session.mjs";
import { pythonVenv } from "./tools.mjs";

/** Takes `execve` from Node, as older versions and Windows are without it. */
const WITHOUT_EXECVE = "process.execve = undefined;\n";

/** An empty home, and the environment of a host that was started in it. */
export function emptyHome(folder, node = process.execPath) {
  const home = path.join(folder, "home");
  const bin = path.join(folder, "node");
  mkdirSync(home, { recursive: true });
  mkdirSync(bin);
  symlinkSync(node, path.join(bin, "node"));
  return { PATH: `${bin}:${process.env.PATH}`, HOME: home, MCP_REMOTE_CONFIG_DIR: path.join(home, "store") };
}

/** The same, with a Node that has no `execve`. */
export function withoutExecve(env, folder) {
  const hook = path.join(folder, "without-execve.cjs");
  writeFileSync(hook, WITHOUT_EXECVE);
  return { ...env, NODE_OPTIONS: `--require=${hook}` };
}

export const withRegistry = (env, registry) => ({
  ...env,
  npm_config_registry: registry.url,
  npm_config_audit: "false",
  npm_config_fund: "false",
  npm_config_update_notifier: "false",
});

/** `npm install`, with `--global` or into a project; where the commands are, and what npm says. */
export async function npmInstall(env, registry, prefix, name, flag) {
  const install = ["npm", "install", `--prefix=${prefix}`, "--loglevel=error", flag, name];
  const out = await succeed(install, withRegistry(env, registry));
  const bin = flag === "--global" ? "bin" : "node_modules/.bin";
  return { out, bin: (command) => path.join(prefix, bin, command) };
}

/** `tar xzf` of the archive. */
export async function unpack(archive, folder) {
  mkdirSync(folder, { recursive: true });
  await succeed(["tar", "xzf", archive, "-C", folder, "--strip-components=1"], process.env);
  return (command) => path.join(folder, command);
}

/** `pip install` into an environment of its own. */
export async function pipInstall(wheel, folder) {
  await pythonVenv(folder);
  const flags = ["--quiet", "--disable-pip-version-check", "--no-index", "--no-deps"];
  await succeed([path.join(folder, "bin/pip"), "install", ...flags, wheel], process.env);
  return (command) => path.join(folder, "bin", command);
}

/** `uvx`, which neither fetches a Python nor asks an index here. */
export function uvx(uv, env, wheel) {
  return {
    command: (name) => [uv, "tool", "run", "--offline", "--from", wheel, name],
    env: { ...env, UV_PYTHON_DOWNLOADS: "never", UV_CACHE_DIR: path.join(env.HOME, ".cache/uv") },
  };
}

/** A folder that is all that the program sees, as in an image from scratch; its libraries, if it is not static. */
export async function root(program, folder) {
  mkdirSync(path.join(folder, "data"), { recursive: true });
  copyFileSync(program, path.join(folder, "mcp-remote"));
  chmodSync(path.join(folder, "mcp-remote"), 0o755);
  const { out } = await run(["ldd", program], process.env);
  const libraries = out.match(/\/\S+/g) ?? [];
  for (const library of libraries) {
    mkdirSync(path.join(folder, path.dirname(library)), { recursive: true });
    copyFileSync(library, path.join(folder, library));
  }
  const env = { PATH: process.env.PATH, HOME: "/data", MCP_REMOTE_CONFIG_DIR: "/data" };
  return { command: ["chroot", folder, "/mcp-remote"], env, libraries };
}
