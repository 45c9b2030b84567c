// A proxy before a server on loopback, which notes every request with its
// headers and its body, what came back, and who ended the stream. It can lead to
// another server, answer by itself, and cut a stream.

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
    /** Streams that nobody has ended. */
    open: () => exchanges.filter((exchange) => !exchange.endedBy),
    /** Leads to another server from now on. */
    leadTo: (target) => void (upstream = new URL(target)),
    /** Answers with the status that this gives for a request, if it gives one. */
    answerWith: (status) => void (answers = status),
    async stop() {
      server.closeAllConnections();
      server.close();
    },
  };
}

/** The JSON-RPC message of a request; `{}` where there is none. */
export function rpc({ body }) {
  try {
    return JSON.parse(body);
  } catch {
    return {};
  }
}

/** The messages that a server sent, as it wrote them. */
export function sent({ answer, answerHeaders }) {
  if (!answerHeaders?.["content-type"]?.includes("text/event-stream")) return answer ? [answer] : [];
  const events = answer.split(/\r?\n\r?\n/);
  return events.map((event) => event.split(/\r?\n/).filter((l) => l.startsWith("data:")).map((l) => l.slice(5).replace(/^ /, "")).join("\n"));
}

/** An exchange in one line. */
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
    `(${exchange.endedBy ? `ended by the ${exchange.endedBy} after ${exchange.endedAt - exchange.at} ms` : "open"})`,
  ]
    .filter(Boolean)
    .join(" ");
}
