// A TypeScript SDK 2 server for 2026-07-28 and, unless the first argument is
// `reject`, for earlier versions without sessions. A second argument adds a tool
// with an invalid `x-mcp-header`. Prints its URL once it listens on loopback.

import { createServer } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { toNodeHandler } from "@modelcontextprotocol/node";
import { McpServer, completable, createMcpHandler, fromJsonSchema, inputRequired } from "@modelcontextprotocol/server";
import { z } from "zod";

const text = (text) => ({ content: [{ type: "text", text }] });
const object = (properties = {}, required = Object.keys(properties)) =>
  fromJsonSchema({ type: "object", properties, required });
const name = { type: "object", properties: { name: { type: "string" } }, required: ["name"] };

function build() {
  const capabilities = { tools: { listChanged: true }, resources: { subscribe: true, listChanged: true }, logging: {} };
  const server = new McpServer({ name: "ts2", version: "2.0.0" }, { capabilities });
  const tool = (name, inputSchema, run) => server.registerTool(name, { inputSchema }, run);
  tool("echo", object({ text: { type: "string" } }), async (args) => text(`echo ${args.text}`));
  // The server compares the header `Mcp-Param-Region` with the argument.
  tool("region", object({ region: { type: "string", "x-mcp-header": "Region" } }), async (args) => text(`in ${args.region}`));
  if (broken) tool("broken", object({ list: { type: "array", "x-mcp-header": "List" } }), async () => text("not called"));
  tool("ask", object(), async (_, { mcpReq }) => {
    const answer = mcpReq.inputResponses?.who;
    if (answer) return text(`hello ${answer.content.name}`);
    return inputRequired({ inputRequests: { who: inputRequired.elicit({ message: "Your name?", requestedSchema: name }) } });
  });
  /** Registers a tool that needs the answer to one request of `inputRequired`. */
  const asking = (name, inputSchema, request, said) =>
    tool(name, inputSchema, async (args, { mcpReq }) => {
      const answer = mcpReq.inputResponses?.it;
      return answer ? text(said(answer)) : inputRequired({ inputRequests: { it: request(args) } });
    });
  const messages = [{ role: "user", content: { type: "text", text: "Say something" } }];
  asking("sample", object(), () => inputRequired.createMessage({ messages, maxTokens: 10 }), ({ content }) => `sampled ${content.text}`);
  asking("roots", object(), () => inputRequired.listRoots(), ({ roots }) => roots.map(({ uri }) => uri).join(" "));
  asking(
    "url",
    object({ url: { type: "string" } }),
    ({ url }) => inputRequired.elicitUrl({ url, message: "Please visit this page" }),
    ({ action }) => `the user chose ${action}`,
  );
  tool("twice", object(), async (_, { mcpReq }) => {
    const ask = (message) => inputRequired.elicit({ message, requestedSchema: name });
    const said = (key) => mcpReq.inputResponses[key].content.name;
    if (!mcpReq.inputResponses) return inputRequired({ inputRequests: { a: ask("Your name?") }, requestState: "first" });
    if (mcpReq.inputResponses.a) {
      return inputRequired({ inputRequests: { b: ask("And yours?"), c: ask("And theirs?") }, requestState: said("a") });
    }
    return text(`first ${mcpReq.requestState()}, then ${said("b")} and ${said("c")}`);
  });
  // Versions before 2026-07-28 have no structured output but objects.
  const outputSchema = fromJsonSchema({ type: "array", items: { type: "string" } });
  server.registerTool("list", { inputSchema: object(), outputSchema }, async () => ({ ...text('["a","b"]'), structuredContent: ["a", "b"] }));
  tool("log", object(), async (_, { mcpReq }) => {
    for (const level of ["debug", "warning"]) await mcpReq.log(level, `a ${level}`);
    return text("logged");
  });
  tool("touch", object(), async () => {
    handler.notify.resourceUpdated("note://one");
    return text("touched");
  });
  tool("steps", object(), async (_, { mcpReq }) => {
    const progressToken = mcpReq._meta?.progressToken;
    for (let progress = 1; progress <= 3; progress += 1) {
      await mcpReq.notify({ method: "notifications/progress", params: { progressToken, progress, total: 3 } });
      await sleep(30);
    }
    return text("3 steps");
  });
  tool("change", object(), async () => {
    handler.notify.toolsChanged();
    return text("changed");
  });
  tool("wait", object(), async (_, { mcpReq }) => {
    await sleep(20_000, undefined, { signal: mcpReq.signal });
    return text("waited");
  });
  server.registerResource("note", "note://one", {}, async (uri) => ({ contents: [{ uri: uri.href, text: "one" }] }));
  const argsSchema = z.object({ name: completable(z.string(), () => ["Ada", "Alan"]) });
  server.registerPrompt("greet", { argsSchema }, ({ name }) => ({
    messages: [{ role: "user", content: { type: "text", text: `Hello ${name}` } }],
  }));
  return server;
}

const [legacy = "stateless", broken] = process.argv.slice(2);
const handler = createMcpHandler(build, { legacy });
const http = createServer(toNodeHandler(handler));
http.listen(0, "127.0.0.1", () => console.log(`http://127.0.0.1:${http.address().port}/mcp`));
