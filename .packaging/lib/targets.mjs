// The systems that a release has programs for, and how each kind of package names them.

/** By Rust's name of the target. `npm` is `process.platform` and `process.arch`. */
export const TARGETS = {
  "x86_64-unknown-linux-gnu": { npm: ["linux", "x64"], libc: "glibc", wheel: "x86_64", docker: "amd64" },
  "aarch64-unknown-linux-gnu": { npm: ["linux", "arm64"], libc: "glibc", wheel: "aarch64", docker: "arm64" },
  "x86_64-unknown-linux-musl": { npm: ["linux", "x64"], libc: "none", wheel: "x86_64", docker: "amd64" },
  "aarch64-unknown-linux-musl": { npm: ["linux", "arm64"], libc: "none", wheel: "aarch64", docker: "arm64" },
  // The oldest systems for which Rust builds: https://doc.rust-lang.org/rustc/platform-support/apple-darwin.html
  "x86_64-apple-darwin": { npm: ["darwin", "x64"], wheel: "macosx_10_12_x86_64" },
  "aarch64-apple-darwin": { npm: ["darwin", "arm64"], wheel: "macosx_11_0_arm64" },
  "x86_64-pc-windows-msvc": { npm: ["win32", "x64"], wheel: "win_amd64" },
  "aarch64-pc-windows-msvc": { npm: ["win32", "arm64"], wheel: "win_arm64" },
  // What a cross build makes; a release has those of MSVC.
  "x86_64-pc-windows-gnu": { npm: ["win32", "x64"], wheel: "win_amd64" },
};

export const isWindows = (target) => TARGETS[target].npm[0] === "win32";

/** The name of the program's file. */
export const programName = (target) => (isWindows(target) ? "mcp-remote.exe" : "mcp-remote");

/**
 * The programs for channels that have one for each system and processor. On Linux, a static program is preferred,
 * because it runs on every distribution.
 */
export function onePerSystem(programs) {
  const chosen = new Map();
  for (const program of programs) {
    const key = TARGETS[program.target].npm.join("-");
    if (!chosen.has(key) || TARGETS[program.target].libc === "none") chosen.set(key, program);
  }
  return [...chosen.values()];
}
