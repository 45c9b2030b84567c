// One line per check, `ok ...` or `FAIL ...`, as the other scripts here print.

import { setTimeout as sleep } from "node:timers/promises";

/** Failed checks so far. */
export let failed = 0;

export function must(condition, what, seen) {
  if (!condition) {
    throw new Error(seen === undefined ? what : `${what}; saw ${JSON.stringify(seen)?.slice(0, 1200)}`);
  }
}

export const equals = (seen, expected, what) =>
  must(JSON.stringify(seen) === JSON.stringify(expected), `${what} ${JSON.stringify(expected)}`, seen);

/** Runs a check; what it returns is said in brackets, what `told` returns is shown if it fails. */
export async function check(name, body, { limitMs = 30_000, told = () => "" } = {}) {
  const began = Date.now();
  let timer;
  try {
    const limit = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error(`no end after ${limitMs} ms`)), limitMs);
    });
    const note = await Promise.race([body(), limit]);
    console.log(`ok ${name}${note ? ` (${note})` : ""} ${Date.now() - began} ms`);
    return true;
  } catch (error) {
    failed += 1;
    console.log(`FAIL ${name}: ${[error?.message ?? String(error), error?.cause].filter(Boolean).join(": ").replaceAll("\n", " ")}`);
    const text = told();
    if (text) console.log(text.slice(-(process.env.TOLD ?? 4_000)).replace(/^/gm, "    | "));
    return false;
  } finally {
    clearTimeout(timer);
  }
}

export async function until(condition, what, limitMs = 8_000) {
  const deadline = Date.now() + limitMs;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`not seen within ${limitMs} ms: ${what}`);
    await sleep(10);
  }
}
