// A recording HTTP proxy in front of a server on loopback. It records each
// request, the response, and which side closed the stream. On demand it switches
// to another server, answers requests itself, or cuts a stream.

import http from "node:http";
import { once } from "node:events";

export async function startWire(target) {
  let upstream = new URL(target);
  let answers = () => undefined;
  const exchanges = [];
  const server = http.createServer((request, response) => {
    const { method, url, headers } = request;
    const exchange = { at: Date.now(), method, path: url, headers, body: "", answer: "", status: undefined, endedBy: undefined };
    exchanges.push(exchange);
    const own = answers(request);
    if (own) {
      request.resume();
      Object.assign(exchange, { status: own, endedBy: "server", endedAt: Date.now() });
      response.writeHead(own).end();
      return;
    }
    const onward = http.request({ host: upstream.hostname, port: upstream.port, method, path: url, headers, agent: false });
    const end = (endedBy) => {
      if (exchange.endedBy) return;
      exchange.endedBy = endedBy;
      exchange.endedAt = Date.now();
    };
    exchange.cut = () => {
      end("wire");
      response.destroy();
    };
    request.on("data", (chunk) => (exchange.body += chunk));
    request.pipe(onward);
    onward.on("response", (answer) => {
      exchange.status = answer.statusCode;
      exchange.answerHeaders = answer.headers;
      response.writeHead(answer.statusCode, answer.headers);
      response.flushHeaders();
      answer.setEncoding("utf8").on("data", (text) => {
        exchange.answer += text;
        response.write(text);
      });
      answer.on("end", () => {
        end("server");
        response.end();
      });
      answer.on("error", () => response.destroy());
    });
    onward.on("error", () => response.destroy());
    response.on("close", () => {
      end("client");
      onward.destroy();
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    exchanges,
    url: `http://127.0.0.1:${server.address().port}${upstream.pathname}`,
    /** Exchanges whose stream is still open. */
    open: () => exchanges.filter((exchange) => !exchange.endedBy),
    /** Forwards to another server from now on. */
    switchTo: (target) => void (upstream = new URL(target)),
    /** Answers a request with the status that `status` returns for it, if any. */
    answerWith: (status) => void (answers = status),
    async stop() {
      server.closeAllConnections();
      server.close();
    },
  };
}

/** Returns the JSON-RPC message of a request, or `{}` if it has none. */
export function rpc({ body }) {
  try {
    return JSON.parse(body);
  } catch {
    return {};
  }
}

/** Returns the messages in a response, byte for byte as the server sent them. */
export function sent({ answer, answerHeaders }) {
  if (!answerHeaders?.["content-type"]?.includes("text/event-stream")) return answer ? [answer] : [];
  const events = answer.split(/\r?\n\r?\n/);
  return events.map((event) => event.split(/\r?\n/).filter((l) => l.startsWith("data:")).map((l) => l.slice(5).replace(/^ /, "")).join("\n"));
}

/** Formats an exchange as one line. */
export function line(exchange) {
  const { method, id, params } = rpc(exchange);
  const headers = Object.entries(exchange.headers).filter(([name]) => /^(mcp-|last-event-id)/.test(name));
  return [
    exchange.status ?? "...",
    exchange.method,
    exchange.path.replace(/\?.*/, ""),
    method ?? (exchange.body && "answer"),
    id !== undefined && `id ${id}`,
    params?.name,
    headers.map(([name, value]) => `${name}=${name === "mcp-session-id" ? "…" : value}`).join(" "),
    exchange.status >= 400 && exchange.answer.slice(0, 200),
    `(${exchange.endedBy ? `closed by the ${exchange.endedBy} after ${exchange.endedAt - exchange.at} ms` : "open"})`,
  ]
    .filter(Boolean)
    .join(" ");
}
