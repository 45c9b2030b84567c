// PyPI: a wheel with the program among its scripts, and a Python entry point for the program's second name.
// https://packaging.python.org/en/latest/specifications/binary-distribution-format/

import { createHash } from "node:crypto";
import { isStatic, newestGlibc } from "./elf.mjs";
import { RUNS, text, zip } from "./files.mjs";
import { TARGETS, onePerSystem, programName } from "./targets.mjs";

const CLIENT = `"""Starts mcp-remote under its second name."""

import os
import subprocess
import sys
import sysconfig


def client():
    name = "mcp-remote.exe" if os.name == "nt" else "mcp-remote"
    folders = [os.path.dirname(os.path.abspath(sys.argv[0])), sysconfig.get_path("scripts")]
    program = next(filter(os.path.isfile, (os.path.join(folder, name) for folder in folders)), name)
    arguments = ["mcp-remote-client", *sys.argv[1:]]
    if os.name == "nt":
        # There, exec would return to the shell at once.
        sys.exit(subprocess.call(arguments, executable=program))
    os.execvp(program, arguments)
`;

export function wheels({ crate, names, license, readme }, programs) {
  const module = names.pypi.replaceAll("-", "_");
  const info = `${module}-${crate.version}.dist-info`;
  return onePerSystem(programs).map(({ target, bytes }) => {
    const platforms = platformTags(target, bytes);
    const tags = platforms.map((platform) => `Tag: py3-none-${platform}`);
    const files = [
      { path: `${module}-${crate.version}.data/scripts/${programName(target)}`, data: bytes, mode: RUNS },
      text(`${module}/__init__.py`, CLIENT),
      text(`${info}/METADATA`, metadata(crate, names, readme)),
      text(`${info}/WHEEL`, ["Wheel-Version: 1.0", "Generator: pack", "Root-Is-Purelib: false", ...tags, ""].join("\n")),
      text(`${info}/entry_points.txt`, `[console_scripts]\nmcp-remote-client = ${module}:client\n`),
      { ...license, path: `${info}/licenses/LICENSE` },
    ];
    const record = files.map(({ path, data }) => `${path},sha256=${digest(data)},${data.length}`);
    files.push(text(`${info}/RECORD`, [...record, `${info}/RECORD,,`, ""].join("\n")));
    return { file: `${module}-${crate.version}-py3-none-${platforms.join(".")}.whl`, bytes: zip(files) };
  });
}

const digest = (data) => createHash("sha256").update(data).digest("base64url");

/** https://packaging.python.org/en/latest/specifications/platform-compatibility-tags/ */
export function platformTags(target, bytes) {
  const { npm, wheel } = TARGETS[target];
  if (npm[0] !== "linux") return [wheel];
  if (isStatic(bytes)) return ["manylinux_2_17", "manylinux2014", "musllinux_1_1"].map((tag) => `${tag}_${wheel}`);
  const glibc = newestGlibc(bytes);
  if (!glibc) throw new Error(`the program for ${target} needs a C library other than glibc`);
  return [`manylinux_${glibc.join("_")}_${wheel}`];
}

const metadata = (crate, names, readme) =>
  `Metadata-Version: 2.4
Name: ${names.pypi}
Version: ${crate.version}
Summary: ${crate.description}
License-Expression: ${crate.license}
License-File: LICENSE
Keywords: ${crate.keywords.join(",")}
Requires-Python: >=3.8
Project-URL: Homepage, ${crate.homepage}
Project-URL: Source, ${crate.repository}
Description-Content-Type: text/markdown

${readme.data}`;
