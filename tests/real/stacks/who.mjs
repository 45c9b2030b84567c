// The MCP server of the stacks that only provide authorization: a stateless server
// of the TypeScript SDK with one tool, which returns the client ID of the token.

import { McpServer } from "@modelcontextprotocol/sdk/server/mcp.js";
import { StreamableHTTPServerTransport } from "@modelcontextprotocol/sdk/server/streamableHttp.js";

export function whoServer() {
  const server = new McpServer({ name: "who", version: "1.0.0" });
  server.registerTool("who", { description: "client ID of the token" }, ({ authInfo }) => ({
    content: [{ type: "text", text: authInfo.clientId }],
  }));
  return server;
}

/** Handles a request in Express, after the token check. */
export async function handle(request, response) {
  if (request.method !== "POST") return void response.status(405).end();
  const transport = new StreamableHTTPServerTransport({ sessionIdGenerator: undefined });
  response.on("close", () => transport.close());
  await whoServer().connect(transport);
  await transport.handleRequest(request, response, request.body);
}
