// The processes that a check has started, found by a mark in their environment, because a launcher may have ended.

import { readFileSync, readdirSync, readlinkSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

const MARK = "MCP_REMOTE_PACKAGE_CHECK";
let count = 0;

/** A variable that every process below one start has. */
export const mark = () => ({ [MARK]: `${process.pid}.${(count += 1)}.` });

/** The ids of the processes with this mark. */
export function marked({ [MARK]: value }) {
  return readdirSync("/proc").filter((pid) => {
    if (!/^\d+$/.test(pid)) return false;
    try {
      // A process that has ended and is not waited for yet has no file.
      readlinkSync(`/proc/${pid}/exe`);
      return readFileSync(`/proc/${pid}/environ`, "latin1").includes(`${MARK}=${value}`);
    } catch {
      return false;
    }
  });
}

/** Waits until no process has the mark; how long that took, in ms. Undefined if it takes longer than the limit. */
export async function gone(mark, limitMs) {
  const start = performance.now();
  while (marked(mark).length > 0) {
    if (performance.now() - start > limitMs) return undefined;
    await sleep(1);
  }
  return performance.now() - start;
}

/** Ends what is left, so that a failed check does not disturb the next one. */
export function endAll(mark) {
  for (const pid of marked(mark)) {
    try {
      process.kill(Number(pid), "SIGKILL");
    } catch {
      // it has ended
    }
  }
}

/** Memory of the processes with this mark, in bytes: shared pages are counted in parts (PSS, proc(5)). */
export function memory(mark) {
  const sizes = marked(mark).map((pid) => {
    try {
      return Number(/^Pss:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, "utf8"))[1]) * 1024;
    } catch {
      return 0;
    }
  });
  return sizes.reduce((sum, size) => sum + size, 0);
}
