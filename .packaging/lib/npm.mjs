// npm: a package that starts the program, and one package with the program for each system. npm fetches only the one
// that fits. Nothing runs when they are installed.

import { readFileSync } from "node:fs";
import { READS, RUNS, tarGz, text } from "./files.mjs";
import { TARGETS, onePerSystem, programName } from "./targets.mjs";

const LAUNCHER = readFileSync(new URL("../launch.js", import.meta.url), "utf8");

export function npmPackages(release, programs) {
  const { crate, names, license, readme } = release;
  const common = {
    version: crate.version,
    description: crate.description,
    license: crate.license,
    homepage: crate.homepage,
    repository: { type: "git", url: `git+${crate.repository}.git` },
    bugs: { url: `${crate.repository}/issues` },
  };
  const chosen = onePerSystem(programs);
  const platform = (target) => `${names.npm}-${TARGETS[target].npm.join("-")}`;

  const platforms = chosen.map(({ target, bytes }) => {
    const { npm, libc } = TARGETS[target];
    const [os, cpu] = npm;
    const manifest = {
      ...{ name: platform(target), ...common, os: [os], cpu: [cpu] },
      ...(libc === "glibc" && { libc: ["glibc"] }),
      preferUnplugged: true, // Yarn keeps packages zipped, and a program in a zip archive cannot be started
      publishConfig: { access: "public" },
    };
    return {
      file: fileName(manifest),
      manifest,
      bytes: packed(manifest, [
        { path: programName(target), data: bytes, mode: RUNS },
        text("README.md", `# ${manifest.name}\n\nThe program of [${names.npm}](${crate.homepage}) for this system.\n`),
        license,
      ]),
    };
  });

  const commands = ["mcp-remote", "mcp-remote-client"];
  const manifest = {
    ...{ name: names.npm, ...common, keywords: crate.keywords, engines: { node: ">=18" } },
    bin: Object.fromEntries(commands.map((name) => [name, `bin/${name}.js`])),
    files: ["bin", "launch.js"],
    optionalDependencies: Object.fromEntries(chosen.map(({ target }) => [platform(target), crate.version])),
    publishConfig: { access: "public" },
  };
  const starters = commands.map((name) =>
    text(`bin/${name}.js`, `#!/usr/bin/env node\nrequire("../launch.js")("${name}");\n`, RUNS),
  );
  const launcher = packed(manifest, [...starters, text("launch.js", LAUNCHER), readme, license]);
  // The platforms first, because the launcher is useless without them.
  return [...platforms, { file: fileName(manifest), manifest, bytes: launcher }];
}

const fileName = ({ name, version }) => `${name.replace("@", "").replace("/", "-")}-${version}.tgz`;

const packed = (manifest, files) =>
  tarGz(
    [text("package.json", `${JSON.stringify(manifest, null, 2)}\n`, READS), ...files].map((file) => ({
      ...file,
      path: `package/${file.path}`,
    })),
  );
