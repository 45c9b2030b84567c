// A TypeScript SDK 1 server with sessions, for 2025-11-25 and earlier. Prints its
// URL once it listens on loopback.

import { randomUUID } from "node:crypto";
import { createServer } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { McpServer } from "@modelcontextprotocol/sdk/server/mcp.js";
import { StreamableHTTPServerTransport } from "@modelcontextprotocol/sdk/server/streamableHttp.js";
import { z } from "zod";

const text = (text) => ({ content: [{ type: "text", text }] });

function build() {
  const server = new McpServer({ name: "ts1", version: "1.0.0" }, { capabilities: { tools: { listChanged: true } } });
  server.registerTool("echo", { inputSchema: { text: z.string() } }, async (args) => text(`echo ${args.text}`));
  server.registerTool("ask", {}, async () => {
    const requestedSchema = { type: "object", properties: { name: { type: "string" } }, required: ["name"] };
    const { content } = await server.server.elicitInput({ message: "Your name?", requestedSchema });
    return text(`hello ${content.name}`);
  });
  server.registerTool("steps", {}, async (extra) => {
    const { progressToken } = extra._meta ?? {};
    for (let progress = 1; progress <= 3; progress += 1) {
      await extra.sendNotification({ method: "notifications/progress", params: { progressToken, progress, total: 3 } });
      await sleep(30);
    }
    return text("3 steps");
  });
  server.registerTool("change", {}, async () => {
    server.sendToolListChanged();
    return text("changed");
  });
  server.registerTool("wait", {}, async (extra) => {
    await sleep(20_000, undefined, { signal: extra.signal });
    return text("waited");
  });
  server.registerResource("note", "note://one", {}, async (uri) => ({ contents: [{ uri: uri.href, text: "one" }] }));
  server.registerPrompt("greet", {}, () => ({ messages: [{ role: "user", content: { type: "text", text: "Hello" } }] }));
  return server;
}

const sessions = new Map();

async function serve(request, response) {
  let transport = sessions.get(request.headers["mcp-session-id"]);
  if (!transport) {
    transport = new StreamableHTTPServerTransport({
      sessionIdGenerator: randomUUID,
      onsessioninitialized: (id) => void sessions.set(id, transport),
      onsessionclosed: (id) => void sessions.delete(id),
    });
    await build().connect(transport);
  }
  await transport.handleRequest(request, response);
}

const http = createServer((request, response) => void serve(request, response));
http.listen(0, "127.0.0.1", () => console.log(`http://127.0.0.1:${http.address().port}/mcp`));
