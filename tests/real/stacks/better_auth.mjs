// Better Auth with its MCP plugin in front of version 2 of the TypeScript SDK, whose handler
// serves both protocol eras. The sign-in and consent pages belong to the application.

import { createServer } from "node:http";
import { mcp, requireMcpAuth } from "@better-auth/mcp";
import { toNodeHandler } from "@modelcontextprotocol/node";
import { McpServer, createMcpHandler } from "@modelcontextprotocol/server";
import { betterAuth } from "better-auth";
import { memoryAdapter } from "better-auth/adapters/memory";
import { jwt } from "better-auth/plugins";

const port = Number(process.env.PORT);
const baseURL = `http://localhost:${port}`;
const resource = `${baseURL}/mcp`;
const tables = ["user", "session", "account", "verification", "jwks", "rateLimit", "oauthClient", "oauthAccessToken", "oauthRefreshToken", "oauthConsent", "oauthResource", "oauthClientResource"];
const person = { name: "Ada", email: "ada@example.com", password: "of no worth" };

const auth = betterAuth({
  baseURL,
  secret: "of no worth, but long enough for its check",
  database: memoryAdapter(Object.fromEntries(tables.map((table) => [table, []]))),
  emailAndPassword: { enabled: true },
  plugins: [
    jwt(),
    mcp({ loginPage: "/login", consentPage: "/consent", resource, allowDynamicClientRegistration: true, allowUnauthenticatedClientRegistration: true }),
  ],
});
await auth.api.signUpEmail({ body: person });

const handler = createMcpHandler(() => {
  const server = new McpServer({ name: "better-auth", version: "1.0.0" });
  server.registerTool("who", { description: "user of the token" }, () => ({ content: [{ type: "text", text: "you" }] }));
  return server;
});
const mcpRoute = requireMcpAuth(auth, (request) => handler.fetch(request), { resource });

/** A page with a form that is posted to the URL of the page, query included. */
const page = (title, fields) =>
  new Response(`<!doctype html><title>${title}</title><form method="post">${fields}</form>`, { headers: { "content-type": "text/html" } });

/** Posts a form to an endpoint of Better Auth, as its browser client does, and redirects to the answer. */
async function handOn(request, endpoint, body) {
  const oauth_query = new URL(request.url).search.slice(1);
  const answer = await auth.handler(new Request(`${baseURL}/api/auth${endpoint}`, {
    method: "POST",
    headers: { "content-type": "application/json", cookie: request.headers.get("cookie") ?? "", origin: baseURL },
    body: JSON.stringify({ ...body, oauth_query }),
  }));
  const said = await answer.json();
  const next = said.redirect_uri ?? said.url;
  if (!next) return Response.json(said, { status: 500 });
  const headers = new Headers({ location: next });
  for (const cookie of answer.headers.getSetCookie()) headers.append("set-cookie", cookie);
  return new Response(null, { status: 302, headers });
}

async function route(request) {
  const { pathname } = new URL(request.url);
  if (pathname === "/mcp") return mcpRoute(request);
  if (pathname === "/login") {
    if (request.method === "GET") return page("Sign in", `<input name="email" value="${person.email}"><input name="password" value="${person.password}">`);
    return handOn(request, "/sign-in/email", Object.fromEntries(await request.formData()));
  }
  if (pathname === "/consent") {
    if (request.method === "GET") return page("Agree", '<button name="decision" value="accept">Accept</button>');
    return handOn(request, "/oauth2/consent", { accept: (await request.formData()).get("decision") === "accept" });
  }
  return auth.handler(request);
}

createServer(toNodeHandler({ fetch: route })).listen(port);
