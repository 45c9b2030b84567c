// What happened on each connection between a host and the adapter, as tee.mjs reports it.

import { EventEmitter, once } from "node:events";
import { createServer } from "node:net";
import { createInterface } from "node:readline";

/** One process that the host started, from its start to its end. */
export class Connection {
  constructor() {
    this.began = Date.now();
    this.lines = [];
    /** The host's requests, in order: `{ id, method, at, answered, cancelled, result }`. */
    this.requests = [];
    this.changed = undefined;
    this.ended = undefined;
  }

  add({ at, from, line, event }) {
    this.lines.push(`${((at - this.began) / 1000).toFixed(3)} ${from ?? ""} ${(event ?? line).slice(0, 240)}`);
    if (event === "start") this.began = at;
    else if (event) this.ended ??= { at, event };
    if (from !== "host" && from !== "adapter") return;
    let message;
    try {
      message = JSON.parse(line);
    } catch {
      return;
    }
    const { id, method, params } = message;
    const asked = (id) => this.requests.findLast((request) => request.id === id);
    if (from === "host") {
      if (method && id !== undefined) this.requests.push({ id, method, at });
      const given = method === "notifications/cancelled" && asked(params?.requestId);
      if (given && !given.answered) given.cancelled = at;
    } else if (method === "notifications/tools/list_changed") {
      this.changed = at;
    } else if (!method && asked(id)) {
      Object.assign(asked(id), { answered: at, result: message.result });
    }
  }

  close() {
    this.ended ??= { at: Date.now(), event: "killed" };
    this.lines.push(`${this.seconds(this.ended.at)} ended: ${this.ended.event}`);
  }

  /** Seconds from the start. */
  seconds = (at) => (at - this.began) / 1000;

  get lists() {
    return this.requests.filter(({ method }) => method === "tools/list");
  }

  /** The first `initialize` or `tools/list` that the host no longer waits for. */
  get givenUp() {
    return this.requests.find(
      ({ method, answered, cancelled }) =>
        ["initialize", "tools/list"].includes(method) && !answered && (cancelled || this.ended),
    );
  }
}

/** Collects the connections of one host. `changes` emits "change" at each report. */
export async function startConnections() {
  const connections = [];
  const changes = new EventEmitter();
  const server = createServer((socket) => {
    const connection = new Connection();
    connections.push(connection);
    socket.on("error", () => {});
    createInterface({ input: socket })
      .on("line", (line) => {
        connection.add(JSON.parse(line));
        changes.emit("change");
      })
      .on("close", () => {
        connection.close();
        changes.emit("change");
      });
  });
  await once(server.listen(0, "127.0.0.1"), "listening");
  return { connections, changes, port: server.address().port, stop: () => server.close() };
}
