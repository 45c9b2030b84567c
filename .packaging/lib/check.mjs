// Packs this system's release program, installs each package from its file, and starts it.

import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { emptyHome, npmInstall, pipInstall, root, unpack, uvx, withRegistry, withoutExecve } from "./install.mjs";
import { OUTPUT, crate, hostTarget, pack } from "./pack.mjs";
import { marked } from "./processes.mjs";
import { Session, endSessions, run, succeed } from "./session.mjs";
import { startMcpServer, startRegistry } from "./servers.mjs";
import { TARGETS, programName } from "./targets.mjs";
import { aptInstall, tools } from "./tools.mjs";
import { versionResource } from "./version-resource.mjs";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
/** How long a program may outlive the end of its host, in ms. */
const GONE_LIMIT = 1_500;
/** Signals to the process that a host has started. */
const SIGNALS = ["SIGTERM", "SIGINT", "SIGHUP", "SIGKILL"];

const rows = [];
const unchecked = [];

/** Runs a check; it fails if it throws. It may return a remark. */
async function check(package_, size, what, run) {
  const start = performance.now();
  let failure;
  let remark;
  try {
    remark = await run();
  } catch (error) {
    failure = error;
    endSessions();
  }
  const row = { package_, size, what: remark ? `${what} (${remark})` : what, ms: performance.now() - start, failure };
  rows.push(row);
  console.log(`${failure ? "FAIL" : "ok"} ${package_}: ${row.what}`);
  if (failure) console.log(`    ${String(failure.message).trim().replaceAll("\n", "\n    ")}`);
}

function equals(found, expected, what) {
  const [a, b] = [JSON.stringify(found), JSON.stringify(expected)];
  if (a !== b) throw new Error(`${what}: ${a}, expected ${b}`);
}

function must(holds, what) {
  if (!holds) throw new Error(what);
}

export async function main() {
  const own = await tools();
  const { version } = crate();
  const target = hostTarget();
  const program = path.join(ROOT, "target/release", programName(target));
  const files = pack([{ target, bytes: readFileSync(program) }], OUTPUT);
  const made = (start) => path.join(OUTPUT, files.find(({ file }) => file.startsWith(start)).file);
  const size = (file) => statSync(file).size;

  const scratch = mkdtempSync(path.join(tmpdir(), "packages-"));
  const folder = (name) => {
    const made = path.join(scratch, name);
    mkdirSync(made, { recursive: true });
    return made;
  };
  const server = await startMcpServer();
  const url = server.mcpUrl;

  /** What holds for each way of starting. */
  async function starts(name, file, { command, client, env, signals = true, hasLauncher = false, isCache = false }) {
    const bytes = file && size(file);
    await check(name, bytes, "answers, and ends with its host", async () => {
      const session = new Session([...command, url], env);
      const took = await session.open();
      equals((await session.ask("tools/list")).tools.map((tool) => tool.name), ["echo"], "the tools");
      const { text } = (await session.ask("tools/call", { name: "echo", arguments: { text: "é" } })).content[0];
      equals(text, "Echo: é", "the answer");
      const { code, signal, goneMs } = await session.close(GONE_LIMIT);
      equals([code, signal], [0, null], "exit code and signal");
      must(goneMs !== undefined, "a process is left after the host has closed its end");
      return `${took.toFixed(0)} ms, gone after ${goneMs.toFixed(0)} ms`;
    });
    await check(name, bytes, "exit code 2 for a bad flag", async () => {
      const { code, err } = await run([...command, "--bogus"], env);
      equals(code, 2, `exit code (${err})`);
      must(err.includes("unexpected argument '--bogus'"), err);
    });
    if (client) {
      await check(name, bytes, "second name", async () => {
        equals(await succeed([...client, "--version"], env), `mcp-remote-client ${version}\n`, "the version");
        equals((await run([...client, url], env)).code, 0, "exit code of a test of the connection");
      });
    }
    if (signals) {
      await check(name, bytes, "signals end it", async () => {
        const ends = [];
        for (const signal of SIGNALS) {
          const session = new Session([...command, url], env);
          await session.open();
          const end = await session.signal(signal, GONE_LIMIT);
          must(end.goneMs !== undefined, `a process is left ${GONE_LIMIT} ms after ${signal}`);
          const expected = signal === "SIGKILL" ? [null, "SIGKILL"] : await native(signal);
          equals([end.code, end.signal], expected, `exit code and signal after ${signal}`);
          ends.push(`${signal.slice(3)} ${end.goneMs.toFixed(0)} ms`);
        }
        return ends.join(", ");
      });
    }
    // A program without a launcher waits a while: what started it may not be its host.
    if (hasLauncher) {
      await check(name, bytes, "launcher ends when what started it is killed", async () => {
        // Some hosts start programs through a shell. The pipes stay open, and nobody passes a signal on.
        const session = new Session(["sh", "-c", '"$@"; exit', "sh", ...command, url], env);
        await session.open();
        const { goneMs } = await session.signal("SIGKILL", GONE_LIMIT);
        must(goneMs !== undefined, `a process is left ${GONE_LIMIT} ms after the end of the shell`);
        return `${goneMs.toFixed(0)} ms`;
      });
    }
    if (isCache) {
      await check(name, bytes, "install puts it to a lasting place", async () => {
        mkdirSync(path.join(env.HOME, ".cursor"), { recursive: true });
        await succeed([...command, "install", url, "--host", "cursor", "--yes"], env);
        const settings = path.join(env.HOME, ".cursor/mcp.json");
        const [entry] = Object.values(JSON.parse(readFileSync(settings, "utf8")).mcpServers);
        equals(entry.command, path.join(env.HOME, ".local/share/mcp-remote/bin/mcp-remote"), "the command of the entry");
        const session = new Session([entry.command, ...entry.args], env);
        const took = await session.open();
        equals((await session.close(GONE_LIMIT)).code, 0, "exit code");
        return `starts in ${took.toFixed(0)} ms`;
      });
    }
    await check(name, bytes, "official inspector lists its tools", async () => {
      const servers = path.join(folder("inspector"), "servers.json");
      const [start, ...args] = [...command, url];
      writeFileSync(servers, JSON.stringify({ mcpServers: { it: { type: "stdio", command: start, args, env } } }));
      const asked = ["--cli", "--config", servers, "--server", "it", "--format", "json", "--method", "tools/list"];
      const inspectorEnv = { PATH: process.env.PATH, HOME: folder("inspector"), MCP_INSPECTOR_SECRET_STORE: "memory" };
      const { result } = JSON.parse(await succeed([own.node, own.inspector, ...asked], inspectorEnv));
      equals(result.tools[0].name, "echo", "the tool");
    });
  }

  /** How the program itself ends after a signal. */
  const natively = new Map();
  async function native(signal) {
    if (!natively.has(signal)) {
      const session = new Session([program, url], emptyHome(folder(`native-${signal}`)));
      await session.open();
      const { code, signal: by } = await session.signal(signal, GONE_LIMIT);
      natively.set(signal, [code, by]);
    }
    return natively.get(signal);
  }

  // --- archive ---------------------------------------------------------------
  const archive = made("mcp-remote-");
  const unpacked = await unpack(archive, folder("archive"));
  await starts("archive", archive, {
    command: [unpacked("mcp-remote")],
    client: [unpacked("mcp-remote-client")],
    env: emptyHome(folder("archive-env")),
  });
  await check("archive", size(archive), "checksum, and the URL of cargo binstall", async () => {
    await succeed(["sha256sum", "--check", "--quiet", "SHA256SUMS"], process.env, { cwd: OUTPUT });
    const { metadata, repository } = crate();
    const values = { repo: repository, version, name: "mcp-remote", target, bin: "mcp-remote" };
    const filled = (text) => text.replace(/\{ ([a-z]+) \}/g, (_, name) => values[name]);
    const expected = `${repository}/releases/download/v${version}/${path.basename(archive)}`;
    equals(filled(metadata.binstall["pkg-url"]), expected, "pkg-url");
    const listed = (await succeed(["tar", "tzf", archive], process.env)).split("\n");
    must(listed.includes(filled(metadata.binstall["bin-dir"])), `bin-dir is not in the archive: ${listed}`);
  });

  // --- npm -------------------------------------------------------------------
  // Other systems' programs are needed to see that npm does not fetch them.
  const programs = Object.keys(TARGETS).map((each) => ({ target: each, bytes: pretended(each) }));
  const isHere = (each) => TARGETS[each].npm.join() === TARGETS[target].npm.join();
  const others = programs.filter((each) => !isHere(each.target));
  const all = pack([{ target, bytes: readFileSync(program) }, ...others], path.join(scratch, "all"));
  const npm = all.filter(({ manifest }) => manifest).map((each) => ({ ...each, file: path.basename(each.file) }));
  const npmName = npm.at(-1).manifest.name;
  const platform = made(`npm/${npm.find(({ manifest }) => manifest.name.endsWith(TARGETS[target].npm.join("-"))).file}`);
  const registry = await startRegistry(npm);
  const kinds = [["execve", own.node], ["spawn", process.execPath]];
  for (const [kind, node] of kinds) {
    const env = emptyHome(folder(`npm-${kind}`), node);
    const has = (await succeed([node, "-p", "typeof process.execve"], env)).trim() === "function";
    if (kind === "execve" && !has) {
      unchecked.push("npm with execve: this Node is too old, and the package `node` could not be installed");
      continue;
    }
    const startEnv = kind === "spawn" && has ? withoutExecve(env, folder("hook")) : env;
    const name = `npm, global, ${kind}`;
    const prefix = path.join(folder(`npm-${kind}`), "prefix");
    await check(name, size(platform), "npm fetches only the program of this system, and runs no script", async () => {
      registry.asked.length = 0;
      const { out } = await npmInstall(env, registry, prefix, npmName, "--global");
      const fetched = registry.asked.filter((each) => each.startsWith("/-/")).sort();
      equals(fetched, [`/-/${npm.at(-1).file}`, `/-/${path.basename(platform)}`].sort(), "what was fetched");
      must(!/script/.test(out), out);
    });
    const bin = (command) => path.join(prefix, "bin", command);
    await starts(name, platform, { command: [bin("mcp-remote")], client: [bin("mcp-remote-client")], env: startEnv, hasLauncher: kind === "spawn" });
    await check(name, size(platform), kind === "execve" ? "one process" : "two processes", async () => {
      const session = new Session([bin("mcp-remote"), url], startEnv);
      await session.open();
      const count = marked(session.mark).length;
      await session.close(GONE_LIMIT);
      equals(count, kind === "execve" ? 1 : 2, "processes");
    });

    // Every published line of a host's settings begins like this.
    const npx = withRegistry(startEnv, registry);
    const npxCommand = ["npx", "-y", npmName];
    await starts(`npx -y, ${kind}`, platform, { command: npxCommand, env: npx, signals: false, isCache: true });
  }
  await check("npm, project", size(platform), "one sentence if the platform package is missing", async () => {
    const env = emptyHome(folder("npm-omitted"));
    // npm 11 ignores the flag together with --global.
    const { bin } = await npmInstall(env, registry, path.join(folder("npm-omitted"), "project"), npmName, "--omit=optional");
    const { code, out, err } = await run([bin("mcp-remote"), url], env);
    equals([code, out], [1, ""], "exit code and stdout");
    must(/^mcp-remote: the package \S+ is missing\. Install \S+ again, without [^\n]*\n$/.test(err), err);
  });
  registry.stop();

  // --- PyPI ------------------------------------------------------------------
  const wheel = made("pypi/");
  const pip = await pipInstall(wheel, folder("pip"));
  const pythonEnv = emptyHome(folder("python-env"));
  await starts("wheel, pip", wheel, { command: [pip("mcp-remote")], client: [pip("mcp-remote-client")], env: pythonEnv });
  const uv = uvx(own.python("uv"), pythonEnv, wheel);
  await starts("wheel, uvx", wheel, {
    command: uv.command("mcp-remote"),
    client: uv.command("mcp-remote-client"),
    env: uv.env,
    signals: false,
    isCache: true,
  });
  await check("wheel, uvx", size(wheel), "TERM of uvx ends it", async () => {
    const session = new Session([...uv.command("mcp-remote"), url], uv.env);
    await session.open();
    const { goneMs } = await session.signal("SIGTERM", GONE_LIMIT);
    must(goneMs !== undefined, "a process is left");
    return `${goneMs.toFixed(0)} ms`;
  });
  await check("wheel, pip", size(wheel), "uninstalls without a rest", async () => {
    await succeed([pip("pip"), "uninstall", "--yes", "--quiet", "mcp-remote-rs"], process.env);
    equals((await run(["ls", pip("mcp-remote"), pip("mcp-remote-client")], process.env)).out, "", "what is left");
  });

  // --- image -----------------------------------------------------------------
  if (process.getuid() === 0) {
    const image = await root(program, folder("root"));
    const libraries = image.libraries.length ? `${image.libraries.length} libraries beside it` : "static";
    await starts(`image, as a chroot with ${libraries}`, undefined, image);
  } else {
    unchecked.push("image: only root can start a program in a folder of its own");
  }
  unchecked.push("docker build: its base image is not on this machine");

  // --- bundle ----------------------------------------------------------------
  const { getMcpConfigForManifest } = await import(pathToFileURL(path.join(own.mcpb, "dist/index.js")));
  const mcpb = [own.node, path.join(own.mcpb, "dist/cli/cli.js")];
  const bundle = path.join(OUTPUT, "check.mcpb");
  const bundled = path.join(folder("bundle"), "unpacked");
  await check("bundle", undefined, "is made, and valid for @anthropic-ai/mcpb", async () => {
    await succeed([program, "bundle", url, "--header", "X-Check:${CHECK_KEY}", "--output", bundle], process.env);
    await succeed([...mcpb, "unpack", bundle, bundled], process.env);
    await succeed([...mcpb, "validate", path.join(bundled, "manifest.json")], process.env);
    return `${(size(bundle) / 1e6).toFixed(1)} MB`;
  });
  const manifest = JSON.parse(readFileSync(path.join(bundled, "manifest.json"), "utf8"));
  const asHost = (userConfig) =>
    getMcpConfigForManifest({ manifest, extensionPath: bundled, systemDirs: {}, userConfig, pathSeparator: "/" });
  await check("bundle", size(bundle), "asks for the key, and does not start without one", async () => {
    equals(await asHost({}), undefined, "the command without a key");
    must(manifest.user_config.CHECK_KEY.sensitive, "the key is sensitive");
  });
  const config = await asHost({ CHECK_KEY: "the key of the user" });
  const [, ...flags] = config.args;
  const bundleEnv = { ...emptyHome(folder("bundle-env")), ...config.env };
  // `starts` adds the URL, which the bundle has already.
  equals(config.args[0], url, "the URL in the bundle");
  await starts("bundle", bundle, { command: [config.command, ...flags], env: bundleEnv });
  await check("bundle", size(bundle), "the key reaches the server", async () => {
    equals(server.seen.headers["x-check"], "the key of the user", "the header");
  });
  rmSync(bundle);
  server.stop();

  // --- formula, workflows ----------------------------------------------------
  const formula = all.find(({ file }) => file.endsWith(".rb"));
  if ((await run(["ruby", "--version"], process.env)).code !== 0) await aptInstall("ruby");
  if ((await run(["ruby", "--version"], process.env)).code === 0) {
    await check("formula", formula.bytes.length, "is Ruby, and names each system", async () => {
      const file = path.join(scratch, "all", formula.file);
      await succeed(["ruby", "-c", file], process.env);
      equals(readFileSync(file, "utf8").match(/ sha256 "[0-9a-f]{64}"/g).length, 4, "systems");
    });
  } else {
    unchecked.push("formula: no ruby");
  }
  await check("other systems", undefined, "archives and wheels can be unpacked", async () => {
    const test = "import sys, zipfile; [zipfile.ZipFile(f).testzip() and sys.exit(f) for f in sys.argv[1:]]";
    const zips = all.filter(({ file }) => /\.(zip|whl)$/.test(file)).map(({ file }) => path.join(scratch, "all", file));
    await succeed(["python3", "-c", test, ...zips], process.env);
    const tars = all.filter(({ file }) => /gz$/.test(file)).map(({ file }) => path.join(scratch, "all", file));
    for (const tar of tars) await succeed(["tar", "tzf", tar], process.env);
    const tags = all.flatMap(({ file }) => /^pypi.*-py3-none-(.*)\.whl$/.exec(file)?.[1] ?? []).sort();
    const [cpu, other] = TARGETS[target].npm[1] === "x64" ? ["x86_64", "aarch64"] : ["aarch64", "x86_64"];
    const everywhere = (cpu) => ["manylinux_2_17", "manylinux2014", "musllinux_1_1"].map((tag) => `${tag}_${cpu}`).join(".");
    // This system's program decides its tag itself.
    const own = tags.find((tag) => tag.startsWith("manylinux") && tag.endsWith(cpu));
    const expected = ["macosx_10_12_x86_64", "macosx_11_0_arm64", everywhere(other), own, "win_amd64", "win_arm64"].sort();
    equals(tags, expected, "the tags of the wheels");
    return `${zips.length} zip archives and wheels, ${tars.length} tar archives`;
  });
  const windres = "x86_64-w64-mingw32-windres";
  if ((await run([windres, "--version"], process.env)).code === 0) {
    await check("version resource", undefined, "a resource compiler reads it", async () => {
      const file = path.join(scratch, "version.res");
      writeFileSync(file, versionResource(crate()));
      const read = await succeed([windres, "-J", "res", "-O", "rc", file], process.env);
      must(read.includes(`VALUE "ProductVersion", "${version}"`), read);
    });
  } else {
    unchecked.push(`version resource of the Windows program: no ${windres}`);
  }
  for (const workflow of ["ci.yml", "release.yml"]) {
    const file = path.join(ROOT, ".github/workflows", workflow);
    await check(workflow, undefined, "schema, and zizmor", async () => {
      await succeed([own.python("check-jsonschema"), "--builtin-schema", "vendor.github-workflows", file], process.env);
      await succeed([own.python("zizmor"), "--offline", "--no-progress", "--quiet", file], process.env);
    });
  }

  rmSync(scratch, { recursive: true, force: true });
  report(files);
}

/** A file that looks like a program for another system, so that all packages can be made. */
function pretended(target) {
  const bytes = Buffer.alloc(4096);
  if (TARGETS[target].npm[0] === "linux") bytes.write("\x7fELF\x02", "latin1");
  if (TARGETS[target].libc === "glibc") {
    bytes.write("GLIBC_2.17\0", 512, "latin1");
    // One segment, which names an interpreter.
    bytes.writeBigUInt64LE(64n, 32);
    bytes.writeUInt16LE(56, 54);
    bytes.writeUInt16LE(1, 56);
    bytes.writeUInt32LE(3, 64);
  }
  return bytes;
}

function report(files) {
  console.log("\n| package | bytes | check | ms |\n|---|---:|---|---:|");
  for (const { package_, size, what, ms, failure } of rows) {
    console.log(`| ${package_} | ${size ?? ""} | ${failure ? "FAIL: " : ""}${what} | ${ms.toFixed(0)} |`);
  }
  console.log("\nFiles:");
  for (const { file, bytes } of files) console.log(`${String(bytes.length).padStart(10)}  ${file}`);
  for (const line of unchecked) console.log(`not checked: ${line}`);
  const failed = rows.filter(({ failure }) => failure).length;
  console.log(`${rows.length - failed} passed, ${failed} failed`);
  process.exit(failed === 0 ? 0 : 1);
}
