// A folder with the program, for people and for the package managers that fetch from a release.

import { READS, RUNS, tarGz, text, zip } from "./files.mjs";
import { isWindows, programName } from "./targets.mjs";

const CLIENT_COMMAND = '@"%~dp0mcp-remote.exe" client %*\r\n';

export function archives({ crate, license, readme, changelog }, programs) {
  return programs.map(({ target, bytes }) => {
    const folder = `mcp-remote-${crate.version}-${target}`;
    const files = [{ path: programName(target), data: bytes, mode: RUNS }, readme, changelog, license];
    // A link takes no place. Windows has none in archives.
    files.push(
      isWindows(target)
        ? text("mcp-remote-client.cmd", CLIENT_COMMAND, READS)
        : { path: "mcp-remote-client", link: "mcp-remote", mode: RUNS },
    );
    const entries = files.map((file) => ({ ...file, path: `${folder}/${file.path}` }));
    return isWindows(target)
      ? { target, file: `${folder}.zip`, bytes: zip(entries) }
      : { target, file: `${folder}.tar.gz`, bytes: tarGz(entries) };
  });
}

/** The URL of a file of the release. */
export const releaseUrl = ({ crate }, file) => `${crate.repository}/releases/download/v${crate.version}/${file}`;
