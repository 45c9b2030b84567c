// A TypeScript SDK 1 server with sessions, for 2025-11-25 and earlier. Prints its
// URL once it listens on loopback.

import { randomUUID } from "node:crypto";
import { createServer } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { completable } from "@modelcontextprotocol/sdk/server/completable.js";
import { McpServer } from "@modelcontextprotocol/sdk/server/mcp.js";
import { StreamableHTTPServerTransport } from "@modelcontextprotocol/sdk/server/streamableHttp.js";
import {
  CreateMessageResultSchema,
  ElicitResultSchema,
  ListRootsResultSchema,
  SetLevelRequestSchema,
  SubscribeRequestSchema,
  UnsubscribeRequestSchema,
  UrlElicitationRequiredError,
} from "@modelcontextprotocol/sdk/types.js";
import { z } from "zod";

const text = (text) => ({ content: [{ type: "text", text }] });
const visit = (url) => ({ mode: "url", url, message: "Please visit this page", elicitationId: randomUUID() });

function build() {
  const capabilities = { tools: { listChanged: true }, resources: { subscribe: true }, logging: {} };
  const server = new McpServer({ name: "ts1", version: "1.0.0" }, { capabilities });
  server.registerTool("echo", { inputSchema: { text: z.string() } }, async (args) => text(`echo ${args.text}`));
  server.registerTool("ask", {}, async () => {
    const requestedSchema = { type: "object", properties: { name: { type: "string" } }, required: ["name"] };
    // This request goes to the stream of the session, those below to the stream of their call.
    const { content } = await server.server.elicitInput({ message: "Your name?", requestedSchema });
    return text(`hello ${content.name}`);
  });
  server.registerTool("sample", {}, async (extra) => {
    const params = { messages: [{ role: "user", content: { type: "text", text: "Say something" } }], maxTokens: 10 };
    const { content } = await extra.sendRequest({ method: "sampling/createMessage", params }, CreateMessageResultSchema);
    return text(`sampled ${content.text}`);
  });
  server.registerTool("roots", {}, async (extra) => {
    const { roots } = await extra.sendRequest({ method: "roots/list" }, ListRootsResultSchema);
    return text(roots.map(({ uri }) => uri).join(" "));
  });
  server.registerTool("url", { inputSchema: { url: z.string() } }, async ({ url }, extra) => {
    const { action } = await extra.sendRequest({ method: "elicitation/create", params: visit(url) }, ElicitResultSchema);
    return text(`the user chose ${action}`);
  });
  let isVisited = false;
  server.registerTool("url-error", { inputSchema: { url: z.string() } }, async ({ url }) => {
    if (isVisited) return text("the user chose accept");
    isVisited = true;
    throw new UrlElicitationRequiredError([visit(url)]);
  });
  server.registerTool("twice", {}, async (extra) => {
    const ask = async (message) => {
      const requestedSchema = { type: "object", properties: { name: { type: "string" } }, required: ["name"] };
      return (await extra.sendRequest({ method: "elicitation/create", params: { message, requestedSchema } }, ElicitResultSchema)).content.name;
    };
    return text(`first ${await ask("Your name?")}, then ${(await Promise.all([ask("And yours?"), ask("And theirs?")])).join(" and ")}`);
  });
  let levels = ["debug", "warning"];
  server.registerTool("log", {}, async (extra) => {
    for (const level of levels) {
      await extra.sendNotification({ method: "notifications/message", params: { level, data: `a ${level}` } });
    }
    return text("logged");
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
  const subscribed = new Set();
  server.registerTool("touch", {}, async () => {
    for (const uri of subscribed) await server.server.sendResourceUpdated({ uri });
    return text("touched");
  });
  server.registerTool("wait", {}, async (extra) => {
    await sleep(20_000, undefined, { signal: extra.signal });
    return text("waited");
  });
  server.registerResource("note", "note://one", {}, async (uri) => ({ contents: [{ uri: uri.href, text: "one" }] }));
  const argsSchema = { name: completable(z.string(), () => ["Ada", "Alan"]) };
  server.registerPrompt("greet", { argsSchema }, ({ name }) => ({
    messages: [{ role: "user", content: { type: "text", text: `Hello ${name}` } }],
  }));
  const handle = (schema, body) =>
    server.server.setRequestHandler(schema, async ({ params }) => {
      body(params);
      return {};
    });
  handle(SubscribeRequestSchema, ({ uri }) => subscribed.add(uri));
  handle(UnsubscribeRequestSchema, ({ uri }) => subscribed.delete(uri));
  handle(SetLevelRequestSchema, ({ level }) => (levels = level === "debug" ? ["debug", "warning"] : ["warning"]));
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
