// A protected MCP server and the authorization server before it, both official:
// the TypeScript SDK's server and bearer check, and oidc-provider. What is
// written here is only their configuration, and a record of what they are asked.

import { createHash } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:http";
import { McpServer } from "@modelcontextprotocol/sdk/server/mcp.js";
import { StreamableHTTPServerTransport } from "@modelcontextprotocol/sdk/server/streamableHttp.js";
import { createMcpExpressApp } from "@modelcontextprotocol/sdk/server/express.js";
import { InvalidTokenError } from "@modelcontextprotocol/sdk/server/auth/errors.js";
import { requireBearerAuth } from "@modelcontextprotocol/sdk/server/auth/middleware/bearerAuth.js";
import { getOAuthProtectedResourceMetadataUrl, mcpAuthMetadataRouter } from "@modelcontextprotocol/sdk/server/auth/router.js";
import { createLocalJWKSet, exportJWK, generateKeyPair, jwtVerify } from "jose";
import { Provider, errors } from "oidc-provider";

// oidc-provider says here which of its defaults are in use; stdout is for the checks.
console.info = console.error;

/** What a person's browser calls itself here, so that it is not counted as the program's. */
export const PERSON = "a person's browser";

/**
 * Starts both. `accessTokenLife`, of the tokens from now on, is in seconds.
 *
 * `requests` is what programs asked, in order; `grants` what the token endpoint said; `revoked` how
 * often a whole sign-in was ended (oidc-provider does that when a refresh token comes twice).
 * `hold`, if set, is awaited before a request is handled.
 */
export async function startProtectedServer({ accessTokenLife = 600 } = {}) {
  const seen = { requests: [], grants: [], revoked: 0, registrations: [], hold: undefined, accessTokenLife };
  const tokens = new Set();
  const refused = new Set();

  const authorization = createServer();
  const issuer = await listen(authorization);
  const { resource, mcpUrl } = await startListening();

  const provider = await authorizationServer(issuer, mcpUrl, seen);
  authorization.on("request", recorded("authorization server", provider.callback(), seen));

  const verifier = await accessTokenVerifier(issuer, mcpUrl, tokens, refused);
  resource.on("request", recorded("MCP server", await mcpServer(issuer, mcpUrl, verifier), seen));

  return Object.assign(seen, {
    issuer,
    mcpUrl: mcpUrl.href,
    /** From now on no token that was shown so far is good. */
    refuseKnownTokens: () => tokens.forEach((token) => refused.add(token)),
    /** The authorization server loses a registration. */
    forgetClient: (id) => provider.Client.adapter.destroy(id),
    /** What a refresh token still gets, as the error code; `undefined` is a success. */
    async spend(refreshToken, clientId) {
      const body = new URLSearchParams({ grant_type: "refresh_token", refresh_token: refreshToken, client_id: clientId });
      const response = await fetch(`${issuer}/token`, { method: "POST", body, headers: { "user-agent": PERSON } });
      return (await response.json()).error;
    },
    async stop() {
      for (const server of [authorization, resource]) {
        server.close();
        server.closeAllConnections();
      }
    },
  });
}

async function listen(server) {
  await once(server.listen(0, "127.0.0.1"), "listening");
  return `http://127.0.0.1:${server.address().port}`;
}

/**
 * The MCP server's address decides at which port the browser comes back. It must be one that the
 * system gives to nobody by chance, so below those, and one that browsers (and this one) go to.
 */
async function startListening() {
  const FIRST_EPHEMERAL = 32_768;
  const LAST_BLOCKED = 10_080; // WHATWG Fetch, port blocking
  for (;;) {
    const resource = createServer();
    const mcpUrl = new URL("/mcp", await listen(resource));
    const hash = createHash("md5").update(mcpUrl.href).digest("hex");
    const port = 3335 + (parseInt(hash.slice(0, 4), 16) % 45_816); // npm's rule, and ours
    if (port > LAST_BLOCKED && port + 8 < FIRST_EPHEMERAL) return { resource, mcpUrl };
    resource.close();
  }
}

function recorded(server, handler, seen) {
  return async (request, response) => {
    const entry = { server, method: request.method, path: request.url.replace(/\?.*/, "") };
    request.entry = entry;
    if (request.headers["user-agent"] !== PERSON) {
      seen.requests.push(entry);
      response.once("close", () => Object.assign(entry, { status: response.statusCode, at: performance.now() }));
      await seen.hold?.(entry);
    }
    handler(request, response);
  };
}

async function authorizationServer(issuer, mcpUrl, seen) {
  const key = async (alg) => ({ ...(await exportJWK((await generateKeyPair(alg, { extractable: true })).privateKey)), alg, use: "sig" });
  const provider = new Provider(issuer, {
    scopes: ["openid", "offline_access", "mcp:read", "mcp:write"],
    cookies: { keys: ["of no worth"] },
    findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
    jwks: { keys: [await key("RS256"), await key("ES256")] },
    features: {
      devInteractions: { enabled: true },
      deviceFlow: { enabled: true },
      registration: { enabled: true },
      revocation: { enabled: true },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo(_, indicator) {
          // To the letter: a slash gained or lost is another resource.
          if (indicator !== mcpUrl.href) throw new errors.InvalidTarget();
          return {
            scope: "mcp:read mcp:write",
            audience: indicator,
            accessTokenFormat: "jwt",
            accessTokenTTL: seen.accessTokenLife,
            jwt: { sign: { alg: "ES256" } },
          };
        },
      },
    },
  });
  const grant = (ctx, error) => {
    const { grant_type: type, client_id: client } = ctx.oidc.params ?? {};
    seen.grants.push({ type, client, error: error?.error });
  };
  provider.on("grant.success", (ctx) => grant(ctx));
  provider.on("grant.error", (ctx, error) => grant(ctx, error));
  provider.on("grant.revoked", () => (seen.revoked += 1));
  provider.on("registration_create.success", (_, client) => seen.registrations.push(client.metadata()));
  provider.on("server_error", (_, error) => console.error(error));
  return provider;
}

async function accessTokenVerifier(issuer, mcpUrl, tokens, refused) {
  const published = await fetch(`${issuer}/jwks`, { headers: { "user-agent": PERSON } });
  const keys = createLocalJWKSet(await published.json());
  return {
    async verifyAccessToken(token) {
      const checked = jwtVerify(token, keys, { issuer, audience: mcpUrl.href, algorithms: ["ES256"], typ: "at+jwt" });
      const { payload } = await checked.catch((error) => {
        throw new InvalidTokenError(error.message);
      });
      tokens.add(token);
      if (refused.has(token)) throw new InvalidTokenError("Token was withdrawn");
      return {
        token,
        clientId: payload.client_id,
        scopes: (payload.scope ?? "").split(" "),
        expiresAt: payload.exp,
        resource: mcpUrl,
      };
    },
  };
}

async function mcpServer(issuer, mcpUrl, verifier) {
  const metadata = await fetch(`${issuer}/.well-known/oauth-authorization-server`, { headers: { "user-agent": PERSON } });
  const app = createMcpExpressApp();
  app.use(
    mcpAuthMetadataRouter({ oauthMetadata: await metadata.json(), resourceServerUrl: mcpUrl, scopesSupported: ["mcp:read"] }),
  );
  const resourceMetadataUrl = getOAuthProtectedResourceMetadataUrl(mcpUrl);
  const requires = (...requiredScopes) => requireBearerAuth({ verifier, requiredScopes, resourceMetadataUrl, expectedResource: mcpUrl });
  const [reading, writing] = [requires("mcp:read"), requires("mcp:read", "mcp:write")];
  const sessions = new Map();
  app.all(
    "/mcp",
    (request, response, next) => {
      request.entry.rpc = request.body?.method;
      const writes = request.body?.method === "tools/call" && request.body.params?.name === "write";
      return (writes ? writing : reading)(request, response, next);
    },
    async (request, response) => {
      request.entry.admitted = true;
      let transport = sessions.get(request.headers["mcp-session-id"]);
      if (!transport) {
        transport = new StreamableHTTPServerTransport({
          sessionIdGenerator: () => crypto.randomUUID(),
          onsessioninitialized: (id) => void sessions.set(id, transport),
        });
        await session().connect(transport);
      }
      await transport.handleRequest(request, response, request.body);
    },
  );
  return app;
}

function session() {
  const server = new McpServer({ name: "protected", version: "1.0.0" });
  const whoCalls = ({ authInfo }) => ({ content: [{ type: "text", text: `with ${authInfo.scopes.join(" ")}` }] });
  server.registerTool("read", { description: "needs mcp:read" }, whoCalls);
  server.registerTool("write", { description: "needs mcp:write" }, whoCalls);
  return server;
}
