// The TypeScript SDK's ProxyOAuthServerProvider, which forwards every request,
// registrations included, to another authorization server. That one is the SDK's
// example, because it sends no `iss` (RFC 9207): clients reject another issuer's.

import { setupAuthServer } from "@modelcontextprotocol/sdk/examples/server/demoInMemoryOAuthProvider.js";
import { ProxyOAuthServerProvider } from "@modelcontextprotocol/sdk/server/auth/providers/proxyProvider.js";
import { getOAuthProtectedResourceMetadataUrl, mcpAuthRouter } from "@modelcontextprotocol/sdk/server/auth/router.js";
import { requireBearerAuth } from "@modelcontextprotocol/sdk/server/auth/middleware/bearerAuth.js";
import { createMcpExpressApp } from "@modelcontextprotocol/sdk/server/express.js";
import { handle } from "./who.mjs";

const { PORT, AUTH_PORT } = process.env;
const mcp = new URL(`http://localhost:${PORT}/mcp`);
const other = setupAuthServer({ authServerUrl: new URL(`http://localhost:${AUTH_PORT}`), mcpServerUrl: mcp, strictResource: true });
const clients = new Map();

const provider = new ProxyOAuthServerProvider({
  endpoints: { authorizationUrl: other.authorization_endpoint, tokenUrl: other.token_endpoint, registrationUrl: other.registration_endpoint },
  getClient: async (id) => clients.get(id),
  async verifyAccessToken(token) {
    const answer = await fetch(other.introspection_endpoint, { method: "POST", body: new URLSearchParams({ token }) });
    const { client_id: clientId, scope, exp: expiresAt, aud } = await answer.json();
    return { token, clientId, scopes: scope.split(" "), expiresAt, resource: new URL(aud) };
  },
});
// Keeps each client that registers through the proxy, so that `getClient` finds it.
const { registerClient } = provider.clientsStore;
Object.defineProperty(provider, "clientsStore", {
  value: {
    getClient: async (id) => clients.get(id),
    async registerClient(client) {
      const registered = await registerClient(client);
      clients.set(registered.client_id, registered);
      return registered;
    },
  },
});

const app = createMcpExpressApp();
app.use(mcpAuthRouter({ provider, issuerUrl: new URL(mcp.origin), resourceServerUrl: mcp, scopesSupported: ["mcp:tools"] }));
app.all("/mcp", requireBearerAuth({ verifier: provider, expectedResource: mcp, resourceMetadataUrl: getOAuthProtectedResourceMetadataUrl(mcp) }), handle);
app.listen(PORT);
