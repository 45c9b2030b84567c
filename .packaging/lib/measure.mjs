// What each way of starting costs: time to the first answer, memory and processes of the whole tree, time to the end.

import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { cpus, loadavg, tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { tarGz } from "./files.mjs";
import { emptyHome, npmInstall, pipInstall, uvx, withRegistry, withoutExecve } from "./install.mjs";
import { hostTarget, pack } from "./pack.mjs";
import { marked, memory } from "./processes.mjs";
import { Session } from "./session.mjs";
import { startMcpServer, startRegistry } from "./servers.mjs";
import { programName } from "./targets.mjs";
import { tools } from "./tools.mjs";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const GONE_LIMIT = 5_000;

/** `runs` is how often each way is started; the first start of each is not counted. */
export async function main(runs = "15") {
  const own = await tools();
  const target = hostTarget();
  const program = path.join(ROOT, "target/release", programName(target));
  const scratch = mkdtempSync(path.join(tmpdir(), "measure-"));
  const folder = (name) => {
    const made = path.join(scratch, name);
    mkdirSync(made, { recursive: true });
    return made;
  };
  const files = pack([{ target, bytes: readFileSync(program) }], folder("packages"));
  const wheel = path.join(folder("packages"), files.find(({ file }) => file.startsWith("pypi/")).file);
  const npm = files.filter(({ manifest }) => manifest).map((each) => ({ ...each, file: path.basename(each.file) }));
  const name = npm.at(-1).manifest.name;
  const registry = await startRegistry([...npm, ...installed(path.dirname(own.npmMcpRemote), "mcp-remote")]);
  const server = await startMcpServer();

  const older = (place) => withoutExecve(emptyHome(folder(place), own.node), folder(place));
  const newer = (place) => emptyHome(folder(place), own.node);
  const globally = async (env, place) =>
    (await npmInstall(env, registry, path.join(folder(place), "prefix"), name, "--global")).bin("mcp-remote");
  const [spawnEnv, execveEnv] = [older("spawn"), newer("execve")];
  const uv = uvx(own.python("uv"), newer("uvx"), wheel);
  const pip = await pipInstall(wheel, folder("pip"));
  const ways = [
    ["native", [program], newer("native")],
    ["wheel, pip", [pip("mcp-remote")], newer("pip-env")],
    ["npm, global, execve", [await globally(execveEnv, "execve")], execveEnv],
    ["npm, global, spawn", [await globally(spawnEnv, "spawn")], spawnEnv],
    ["`uvx`, warm", uv.command("mcp-remote"), uv.env],
    ["`npx -y`, warm, execve", ["npx", "-y", name], withRegistry(newer("npx-execve"), registry)],
    ["`npx -y`, warm, spawn", ["npx", "-y", name], withRegistry(older("npx-spawn"), registry)],
    ["npm mcp-remote 0.15.1, `npx -y`, warm", ["npx", "-y", "mcp-remote@0.15.1"], withRegistry(newer("npm"), registry)],
  ];
  const measured = ways.map(([way, command, env]) => ({ way, command, env, first: [], memory: [], count: [], gone: [] }));
  const before = loadavg()[0];
  // In turns, so that what else the machine does meets each way alike.
  for (let run = 0; run <= Number(runs); run += 1) {
    for (const row of measured) {
      const session = new Session([...row.command, server.mcpUrl], row.env);
      const first = await session.open();
      await session.ask("tools/list");
      const [bytes, count] = [memory(session.mark), marked(session.mark).length];
      const { goneMs } = await session.close(GONE_LIMIT);
      if (run === 0) continue;
      row.first.push(first);
      row.memory.push(bytes / 1e6);
      row.count.push(count);
      row.gone.push(goneMs ?? GONE_LIMIT);
    }
  }
  server.stop();
  registry.stop();
  rmSync(scratch, { recursive: true, force: true });

  console.log(`${runs} starts each in turns, ${cpus().length} cores, load ${before.toFixed(1)} before and ${loadavg()[0].toFixed(1)} after.`);
  console.log("Medians; in brackets, the smallest and the largest.\n");
  console.log("| way of starting | first answer, ms | memory (PSS), MB | processes | host closed to all gone, ms |\n|---|---:|---:|---:|---:|");
  for (const { way, first, memory, count, gone } of measured) {
    const cells = [spread(first, 0), spread(memory, 1), median(count), spread(gone, 0)];
    console.log(`| ${way} | ${cells.join(" | ")} |`);
  }
}

const sorted = (values) => values.toSorted((a, b) => a - b);
const median = (values) => sorted(values)[Math.floor(values.length / 2)];
const spread = (values, digits) => {
  const [least, most] = [sorted(values)[0], sorted(values).at(-1)];
  return `${median(values).toFixed(digits)} (${least.toFixed(digits)}-${most.toFixed(digits)})`;
};

/** A package that is installed in a folder, and all that it depends on, packed again for the registry. */
function installed(modules, name) {
  const packages = new Map();
  const todo = [[modules, name]];
  while (todo.length > 0) {
    const [from, each] = todo.pop();
    // As Node finds it: in the nearest folder above.
    let place = from;
    while (!existsSync(path.join(place, each, "package.json"))) {
      const above = path.dirname(path.dirname(place));
      place = path.basename(above) === "node_modules" ? above : path.join(above, "node_modules");
      if (above === path.dirname(above)) throw new Error(`${each} is not installed`);
    }
    const folder = path.join(place, each);
    if (packages.has(folder)) continue;
    const manifest = JSON.parse(readFileSync(path.join(folder, "package.json"), "utf8"));
    const entries = readdirSync(folder, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile() && !path.relative(folder, entry.parentPath).startsWith("node_modules"))
      .map((entry) => path.join(entry.parentPath, entry.name))
      .map((file) => ({ path: `package/${path.relative(folder, file)}`, data: readFileSync(file), mode: 0o755 }));
    const file = `${each.replace("/", "-")}-${manifest.version}.tgz`;
    packages.set(folder, { manifest, file, bytes: tarGz(entries) });
    for (const dependency of Object.keys(manifest.dependencies ?? {})) {
      todo.push([path.join(folder, "node_modules"), dependency]);
    }
  }
  return [...packages.values()];
}
