// What the checks need beside Node and Python, installed by package name and kept between runs.

import { existsSync, rmSync, statSync, writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { run, succeed } from "./session.mjs";

const place = (file) => fileURLToPath(new URL(file, import.meta.url));
const OWN = place("..");
const REAL = place("../../tests/real");

/** The interpreter and inspector of tests/real, the validator of bundles, and uv. */
export async function tools() {
  // tests/real/run.sh installs the same, and looks at the same file.
  await npmCi(REAL, "node_modules/.installed-by-run-sh");
  await npmCi(OWN, "node_modules/.installed");
  await pythonPackages();
  let node = path.join(REAL, "node_modules/node/bin/node");
  // The package fetches its program in an install script, which may be turned off.
  if ((await run([node, "--version"], process.env)).code !== 0) node = process.execPath;
  return {
    node,
    inspector: path.join(REAL, "node_modules/@modelcontextprotocol/inspector/clients/launcher/build/index.js"),
    npmMcpRemote: path.join(REAL, "node_modules/mcp-remote"),
    mcpb: path.join(OWN, "node_modules/@anthropic-ai/mcpb"),
    python: (name) => path.join(OWN, "venv/bin", name),
  };
}

/** Runs its arguments, more than once where they fail. */
const AGAIN = path.join(REAL, "again");

const isOlder = (stamp, file) => !existsSync(stamp) || statSync(stamp).mtimeMs < statSync(file).mtimeMs;

async function npmCi(folder, stamp) {
  if (!isOlder(path.join(folder, stamp), path.join(folder, "package-lock.json"))) return;
  console.log(`# npm ci in ${path.relative(path.join(OWN, ".."), folder)}`);
  await succeed([AGAIN, "npm", "ci", "--no-audit", "--no-fund", "--loglevel=error"], process.env, { cwd: folder });
  writeFileSync(path.join(folder, stamp), "");
}

async function pythonPackages() {
  const [venv, requirements] = [path.join(OWN, "venv"), path.join(OWN, "requirements.txt")];
  const stamp = path.join(venv, ".installed");
  if (!isOlder(stamp, requirements)) return;
  console.log("# pip install -r .packaging/requirements.txt");
  rmSync(venv, { recursive: true, force: true });
  await pythonVenv(venv);
  const pip = [AGAIN, path.join(venv, "bin/pip"), "install", "--quiet", "--disable-pip-version-check"];
  await succeed([...pip, "--requirement", requirements], process.env);
  writeFileSync(stamp, "");
}

/** Makes an environment. Some Debian machines have no Python, or one without the module that makes environments. */
export async function pythonVenv(folder) {
  if ((await run(["python3", "-c", "import ensurepip, venv"], process.env)).code !== 0) {
    await aptInstall("python3", "python3-venv");
  }
  await succeed(["python3", "-m", "venv", folder], process.env);
}

/** Installs packages of the system where that is possible; whether it was. */
export async function aptInstall(...packages) {
  const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
  const install = ["apt-get", "install", "-y", "--no-install-recommends", ...packages];
  if ((await run(install, env)).code === 0) return true;
  return (await run(["apt-get", "update"], env)).code === 0 && (await run(install, env)).code === 0;
}
