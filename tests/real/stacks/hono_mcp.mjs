// @hono/mcp as its README shows it: with the metadata of an external authorization server, here oidc-provider.

import { StreamableHTTPTransport, bearerAuth, simpleMcpAuthRouter } from "@hono/mcp";
import { serve } from "@hono/node-server";
import { Hono } from "hono";
import { createRemoteJWKSet, jwtVerify } from "jose";
import { startIdentity } from "./identity.mjs";
import { whoServer } from "./who.mjs";

const { PORT, AUTH_PORT } = process.env;
const resourceServerUrl = new URL(`http://127.0.0.1:${PORT}/mcp`);
const { issuer } = await startIdentity({ port: AUTH_PORT, registration: true, resources: [resourceServerUrl.href] });
const keys = createRemoteJWKSet(new URL(`${issuer}/jwks`));

const app = new Hono();
app.route("/", simpleMcpAuthRouter({ issuer, resourceServerUrl, scopesSupported: ["mcp:use"] }));
app.use("/mcp", bearerAuth({
  async verifyToken(token, c) {
    const verified = await jwtVerify(token, keys, { issuer, audience: resourceServerUrl.href }).catch(() => undefined);
    c.set("auth", { token, clientId: verified?.payload.client_id, scopes: [] });
    return verified !== undefined;
  },
}));
app.all("/mcp", async (c) => {
  const transport = new StreamableHTTPTransport();
  await whoServer().connect(transport);
  return transport.handleRequest(c);
});
serve({ fetch: app.fetch, port: Number(PORT), hostname: "127.0.0.1" });
