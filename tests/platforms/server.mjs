// An MCP server and its authorization server in one process on 127.0.0.1, with nothing but Node.
//
//   node server.mjs
//
// Prints its URL. /open/mcp needs no sign-in, /mcp does. GET /state says how many event streams are open.

import { createHash, randomUUID } from "node:crypto";
import { createServer } from "node:http";

const codes = new Map();
const tokens = new Set();
let streams = 0;

const results = {
  initialize: ({ protocolVersion }) => ({
    protocolVersion,
    capabilities: { tools: {} },
    serverInfo: { name: "stub", version: "1" },
  }),
  "tools/list": () => ({ tools: [{ name: "add", inputSchema: { type: "object" } }] }),
  "tools/call": ({ arguments: { a, b } }) => ({ content: [{ type: "text", text: String(a + b) }] }),
};

async function body(request) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  return Buffer.concat(chunks).toString();
}

const server = createServer(async (request, response) => {
  const base = `http://${request.headers.host}`;
  const { pathname, searchParams } = new URL(request.url, base);
  const json = (status, value, headers = {}) =>
    response.writeHead(status, { "content-type": "application/json", ...headers }).end(JSON.stringify(value));

  if (pathname === "/mcp" || pathname === "/open/mcp") {
    const token = request.headers.authorization?.replace(/^Bearer /, "");
    if (pathname === "/mcp" && !tokens.has(token)) {
      const metadata = `Bearer resource_metadata="${base}/.well-known/oauth-protected-resource/mcp"`;
      return json(401, {}, { "www-authenticate": metadata });
    }
    if (request.method === "GET") {
      streams += 1;
      response.on("close", () => (streams -= 1));
      return response.writeHead(200, { "content-type": "text/event-stream" }).flushHeaders();
    }
    if (request.method === "DELETE") return response.writeHead(200).end();
    const { id, method, params = {} } = JSON.parse(await body(request));
    if (id === undefined) return response.writeHead(202).end();
    const result = results[method]?.(params);
    const answer = result ? { result } : { error: { code: -32601, message: "no such method" } };
    return json(200, { jsonrpc: "2.0", id, ...answer }, { "mcp-session-id": "one" });
  }
  switch (pathname) {
    case "/state":
      return json(200, { streams });
    case "/.well-known/oauth-protected-resource/mcp":
      return json(200, { resource: `${base}/mcp`, authorization_servers: [base] });
    case "/.well-known/oauth-authorization-server":
      return json(200, {
        issuer: base,
        authorization_endpoint: `${base}/authorize`,
        token_endpoint: `${base}/token`,
        registration_endpoint: `${base}/register`,
        response_types_supported: ["code"],
        code_challenge_methods_supported: ["S256"],
        token_endpoint_auth_methods_supported: ["none"],
        authorization_response_iss_parameter_supported: true,
      });
    case "/register":
      return json(201, { ...JSON.parse(await body(request)), client_id: "stub-client" });
    case "/authorize": {
      const code = randomUUID();
      codes.set(code, searchParams.get("code_challenge"));
      const back = new URL(searchParams.get("redirect_uri"));
      back.searchParams.set("code", code);
      back.searchParams.set("state", searchParams.get("state"));
      back.searchParams.set("iss", base);
      return response.writeHead(302, { location: back.href }).end();
    }
    case "/token": {
      const form = new URLSearchParams(await body(request));
      const challenge = createHash("sha256").update(form.get("code_verifier") ?? "").digest("base64url");
      if (codes.get(form.get("code")) !== challenge) return json(400, { error: "invalid_grant" });
      codes.delete(form.get("code"));
      const token = randomUUID();
      tokens.add(token);
      return json(200, { access_token: token, token_type: "Bearer", expires_in: 3600, refresh_token: randomUUID() });
    }
    default:
      return response.writeHead(404).end();
  }
});
server.listen(0, "127.0.0.1", () => console.log(`http://127.0.0.1:${server.address().port}`));
