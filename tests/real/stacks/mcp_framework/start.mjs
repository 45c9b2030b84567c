// mcp-framework, which loads its tools from a folder, as a resource server of oidc-provider.

import { fileURLToPath } from "node:url";
import { MCPServer, OAuthAuthProvider } from "mcp-framework";
import { startIdentity } from "../identity.mjs";

const { PORT, AUTH_PORT } = process.env;
const resource = `http://127.0.0.1:${PORT}/mcp`;
const { issuer } = await startIdentity({ port: AUTH_PORT, registration: true, resources: [resource] });
const provider = new OAuthAuthProvider({
  authorizationServers: [issuer],
  resource,
  validation: { type: "jwt", jwksUri: `${issuer}/jwks`, audience: resource, issuer },
});
const server = new MCPServer({
  name: "framework",
  version: "1.0.0",
  basePath: fileURLToPath(new URL(".", import.meta.url)),
  transport: { type: "http-stream", options: { port: Number(PORT), host: "127.0.0.1", endpoint: "/mcp", auth: { provider, endpoints: { initialize: true, messages: true } } } },
});
await server.start();
