// What a Linux program needs of the system, read from the file itself.

const INTERPRETER = 3; // PT_INTERP

/** Whether a program runs without a loader and shared libraries. */
export const isStatic = (bytes) => !segments(bytes).includes(INTERPRETER);

/** The newest version of glibc whose symbols a program uses, as `[major, minor]`; undefined if it uses none. */
export function newestGlibc(bytes) {
  // The names of versions are in the table of strings, each ended by a zero byte.
  const found = new Set(bytes.toString("latin1").match(/GLIBC_\d+\.\d+(?:\.\d+)?(?=\0)/g));
  const versions = [...found].map((name) => name.slice("GLIBC_".length).split(".").map(Number));
  return versions.sort(([a, b], [c, d]) => c - a || d - b)[0]?.slice(0, 2);
}

function segments(bytes) {
  if (bytes.toString("latin1", 0, 4) !== "\x7fELF" || bytes[4] !== 2) throw new Error("not a 64-bit Linux program");
  const [offset, size, count] = [Number(bytes.readBigUInt64LE(32)), bytes.readUInt16LE(54), bytes.readUInt16LE(56)];
  return Array.from({ length: count }, (_, index) => bytes.readUInt32LE(offset + index * size));
}
