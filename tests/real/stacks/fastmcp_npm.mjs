// FastMCP for TypeScript with its OAuth proxy, which registers clients and asks for
// consent, in front of an identity provider with one client: oauth2-mock-server.

import { FastMCP, OAuthProvider, getAuthSession, requireAuth } from "fastmcp";
import { OAuth2Server } from "oauth2-mock-server";

const port = Number(process.env.PORT);
const identity = new OAuth2Server();
await identity.issuer.keys.generate("RS256");
await identity.start(Number(process.env.AUTH_PORT), "127.0.0.1");

const server = new FastMCP({
  name: "proxied",
  version: "1.0.0",
  auth: new OAuthProvider({
    authorizationEndpoint: `${identity.issuer.url}/authorize`,
    tokenEndpoint: `${identity.issuer.url}/token`,
    baseUrl: `http://127.0.0.1:${port}`,
    clientId: "fastmcp",
    clientSecret: "of no worth",
    scopes: ["openid"],
    allowedRedirectUriPatterns: ["http://localhost:*", "http://127.0.0.1:*"],
  }),
});
server.addTool({
  name: "who",
  description: "user of the token",
  canAccess: requireAuth,
  execute: async (_, { session }) => typeof getAuthSession(session).accessToken,
});
await server.start({ transportType: "httpStream", httpStream: { port, host: "127.0.0.1" } });
