// Stands between a host and the adapter: hands every byte on in both directions and
// reports each line with its time to the script that started the host.
//
//   node tee.mjs <port> <command> [argument...]
//
// A report is one JSON object per line: `{ at, from, line }` for a message, `{ at, event }`
// for the start, the end of the host's output, a signal and the exit.

import { spawn } from "node:child_process";
import { connect } from "node:net";

const [port, command, ...args] = process.argv.slice(2);

/** How long the adapter may run after the host closed its output, in ms. */
const END_LIMIT = 10_000;

const reports = connect(Number(port), "127.0.0.1").on("error", () => {});
const report = (entry) => reports.write(`${JSON.stringify({ at: Date.now(), ...entry })}\n`);

report({ event: "start" });
// The proxy variables keep the hosts on loopback. The adapter runs without them.
const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^(https?|all|no)_proxy$/i.test(name)));
const adapter = spawn(command, args, { env, stdio: "pipe" });

function pipe(from, source, target) {
  let rest = "";
  source.setEncoding("utf8").on("data", (text) => {
    target.write(text);
    const lines = (rest + text).split("\n");
    rest = lines.pop();
    for (const line of lines) report({ from, line });
  });
  target.on("error", () => {});
}

pipe("host", process.stdin, adapter.stdin);
pipe("adapter", adapter.stdout, process.stdout);
pipe("log", adapter.stderr, process.stderr);

process.stdin.on("end", () => {
  report({ event: "the host closed its output" });
  adapter.stdin.end();
  setTimeout(() => adapter.kill("SIGKILL"), END_LIMIT).unref();
});
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
  process.on(signal, () => {
    report({ event: signal });
    adapter.kill(signal);
  });
}

function end(event, code) {
  report({ event });
  reports.end(() => process.exit(code));
  reports.on("close", () => process.exit(code));
}
adapter.on("error", (error) => end(`cannot start the adapter: ${error.message}`, 1));
adapter.on("close", (code, signal) => end(`the adapter exited: ${signal ?? code}`, code ?? 1));
