// Runs the program between a host and itself, and records each line of stdin and
// stdout, the end of input, signals and the exit.
//
//   node tap.mjs <command> <arguments...>      with TAP=<folder>

import { spawn } from "node:child_process";
import { writeSync, openSync } from "node:fs";
import path from "node:path";

const [command, ...args] = process.argv.slice(2);
const file = openSync(path.join(process.env.TAP, `${Date.now()}-${process.pid}.jsonl`), "w");
const note = (what) => writeSync(file, `${JSON.stringify({ at: Date.now(), ...what })}\n`);

const child = spawn(command, args, { stdio: ["pipe", "pipe", "inherit"] });
note({ start: child.pid });

/** Forwards a stream unchanged and records its lines. */
function pass(from, to, name) {
  let rest = Buffer.alloc(0);
  from.on("data", (chunk) => {
    rest = Buffer.concat([rest, chunk]);
    for (let end; (end = rest.indexOf(10)) >= 0; rest = rest.subarray(end + 1)) {
      note({ [name]: rest.subarray(0, end).toString().replace(/\r$/, "") });
    }
    to.write(chunk);
  });
}

pass(process.stdin, child.stdin, "host");
pass(child.stdout, process.stdout, "adapter");
process.stdin.on("end", () => {
  note({ eof: true });
  child.stdin.end();
});
for (const stream of [child.stdin, process.stdout]) stream.on("error", () => {});
for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"]) {
  process.on(signal, () => {
    note({ signal });
    child.kill(signal);
  });
}
child.once("exit", (code, signal) => note({ exit: code ?? signal }));
child.once("close", (code) => process.exit(code ?? 1));
