// The command line of `pack`: programs in, packages out.

import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { parseArgs } from "node:util";
import { fileURLToPath } from "node:url";
import { archives } from "./archive.mjs";
import { DOCKERFILE, forImage } from "./docker.mjs";
import { READS, RUNS } from "./files.mjs";
import { formula } from "./homebrew.mjs";
import { npmPackages } from "./npm.mjs";
import { TARGETS, programName } from "./targets.mjs";
import { wheels } from "./wheel.mjs";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const USAGE = `usage: .packaging/pack [--binary TARGET=PATH]... [--output FOLDER]

Makes the packages of a release. Without --binary, they are made of this system's target/release/mcp-remote.
Targets: ${Object.keys(TARGETS).join(" ")}`;

/** Where the packages are, unless --output says something else. */
export const OUTPUT = path.join(ROOT, "target/packages");

export function main(args) {
  let options;
  try {
    const { values } = parseArgs({
      args,
      options: { binary: { type: "string", multiple: true }, output: { type: "string" }, help: { type: "boolean" } },
    });
    options = values;
  } catch (error) {
    return refuse(error.message);
  }
  if (options.help) return console.log(USAGE);
  const binaries = options.binary ?? [`${hostTarget()}=${path.join(ROOT, "target/release", programName(hostTarget()))}`];
  const programs = [];
  for (const binary of binaries) {
    const at = binary.indexOf("=");
    const [target, file] = [binary.slice(0, at), binary.slice(at + 1)];
    if (!(target in TARGETS)) return refuse(`unknown target in --binary ${binary}`);
    if (!existsSync(file)) return refuse(`no program at ${file}`);
    programs.push({ target, bytes: readFileSync(file) });
  }
  const output = options.output ?? OUTPUT;
  for (const { file, bytes } of pack(programs, output)) console.log(`${String(bytes.length).padStart(10)}  ${file}`);
}

function refuse(sentence) {
  console.error(`${sentence}\n\n${USAGE}`);
  process.exitCode = 2;
}

/** Writes the packages into a folder, which is emptied first; returns them. */
export function pack(programs, output) {
  const release = {
    crate: crate(),
    names: JSON.parse(readFileSync(new URL("../names.json", import.meta.url), "utf8")),
    license: fromRoot("LICENSE"),
    readme: withWholeLinks(fromRoot("README.md")),
    changelog: fromRoot("CHANGELOG.md"),
  };
  const folders = archives(release, programs);
  const files = [
    ...folders,
    ...npmPackages(release, programs).map((each) => ({ ...each, file: `npm/${each.file}` })),
    ...wheels(release, programs).map((each) => ({ ...each, file: `pypi/${each.file}` })),
    { file: "homebrew/mcp-remote.rb", bytes: Buffer.from(formula(release, folders)) },
    { file: "docker/Dockerfile", bytes: Buffer.from(DOCKERFILE) },
    ...forImage(programs).map((each) => ({ file: `docker/${each.file}`, bytes: each.bytes, mode: RUNS })),
  ];
  const sums = folders.map(({ file, bytes }) => `${createHash("sha256").update(bytes).digest("hex")}  ${file}\n`);
  files.push({ file: "SHA256SUMS", bytes: Buffer.from(sums.join("")) });
  rmSync(output, { recursive: true, force: true });
  for (const { file, bytes, mode = READS } of files) {
    mkdirSync(path.dirname(path.join(output, file)), { recursive: true });
    writeFileSync(path.join(output, file), bytes, { mode });
  }
  return files;
}

/** What Cargo.toml says; the version is there and nowhere else. */
export function crate() {
  const asked = ["metadata", "--format-version", "1", "--no-deps", "--offline"];
  const { packages } = JSON.parse(execFileSync("cargo", asked, { cwd: ROOT, encoding: "utf8", maxBuffer: 1e8 }));
  return packages.find(({ name }) => name === "mcp-remote");
}

/** The target of this system, as Rust names it. */
export function hostTarget() {
  return /^host: (.*)$/m.exec(execFileSync("rustc", ["-vV"], { encoding: "utf8" }))[1];
}

const fromRoot = (file) => ({ path: file, data: readFileSync(path.join(ROOT, file)), mode: READS });

/** Links between files of the repository lead nowhere on the page of a registry. */
function withWholeLinks(file) {
  const { repository } = crate();
  const whole = (_, open, link) => `${open}${repository}/${/\.svg$/.test(link) ? "raw" : "blob"}/main/${link}`;
  const data = file.data.toString().replace(/(\]\()(?!https?:|#)([^)]+)/g, whole);
  return { ...file, data: Buffer.from(data) };
}
