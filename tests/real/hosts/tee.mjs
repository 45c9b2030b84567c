// Hands every byte on between a host and the adapter, and reports each line with its time
// to the script that started the host. Started by tee.sh; its parent becomes the adapter.
//
//   node tee.mjs <port> <folder with the adapter's in, out and err>
//
// A report is one JSON object per line: `{ at, from, line }` for a message, `{ at, event }`
// for the start, the end of the host's or the adapter's output, and a signal to both.

import { once } from "node:events";
import { createReadStream, createWriteStream, rmSync } from "node:fs";
import { connect } from "node:net";
import path from "node:path";

const [port, pipes] = process.argv.slice(2);
const adapter = process.ppid;

/** How long the adapter may run after the host closed its output, in ms. */
const END_LIMIT = 10_000;

const reports = connect(Number(port), "127.0.0.1").on("error", () => {});
const report = (entry) => reports.write(`${JSON.stringify({ at: Date.now(), ...entry })}\n`);
report({ event: "start" });

const [input, output, errors] = [
  createWriteStream(path.join(pipes, "in")),
  createReadStream(path.join(pipes, "out")),
  createReadStream(path.join(pipes, "err")),
];
Promise.all([input, output, errors].map((pipe) => once(pipe, "open"))).then(() => rmSync(pipes, { recursive: true }));

function tee(from, source, target) {
  let rest = "";
  source.setEncoding("utf8").on("data", (text) => {
    target.write(text);
    const lines = (rest + text).split("\n");
    rest = lines.pop();
    for (const line of lines) report({ from, line });
  });
  target.on("error", () => {});
}
tee("host", process.stdin, input);
tee("adapter", output, process.stdout);
tee("log", errors, process.stderr);

process.stdin.on("end", () => {
  report({ event: "the host closed its output" });
  input.end();
  setTimeout(() => process.kill(adapter, "SIGKILL"), END_LIMIT).unref();
});
// These were sent to the adapter as well, which decides what comes of them.
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => report({ event: signal }));
Promise.all([once(output, "close"), once(errors, "close")]).then(() => {
  report({ event: "the adapter ended" });
  reports.on("close", () => process.exit()).end();
});
