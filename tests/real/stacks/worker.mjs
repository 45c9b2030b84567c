// A worker in both roles, as the README of @cloudflare/workers-oauth-provider shows it, with the
// consent page of its docs/consent-page.md and an MCP server of the TypeScript SDK.

import { OAuthProvider } from "@cloudflare/workers-oauth-provider";
import { WebStandardStreamableHTTPServerTransport } from "@modelcontextprotocol/sdk/server/webStandardStreamableHttp.js";
import { McpServer } from "@modelcontextprotocol/sdk/server/mcp.js";

const mcp = {
  async fetch(request, env, ctx) {
    const server = new McpServer({ name: "worker", version: "1.0.0" });
    server.registerTool("who", { description: "user of the token" }, () => ({ content: [{ type: "text", text: ctx.props.userId }] }));
    const transport = new WebStandardStreamableHTTPServerTransport({ sessionIdGenerator: undefined });
    await server.connect(transport);
    return transport.handleRequest(request);
  },
};

const escape = (value) => value.replace(/[&<>"']/g, (char) => `&#${char.charCodeAt(0)};`);

const consentPage = ({ clientName, scope }, handle) => `<!doctype html>
<meta charset="utf-8">
<title>Authorize ${escape(clientName)}</title>
<form method="post">
  <input type="hidden" name="handle" value="${escape(handle)}">
  ${scope.map((one) => `<label><input type="checkbox" name="scope" value="${escape(one)}" checked> ${escape(one)}</label>`).join("<br>")}
  <p><button name="decision" value="approve">Allow</button> <button name="decision" value="deny">Deny</button></p>
</form>`;

const pages = {
  async fetch(request, env) {
    if (new URL(request.url).pathname !== "/authorize") return new Response(null, { status: 404 });
    const oauth = env.OAUTH_PROVIDER;
    if (request.method === "GET") {
      const asked = await oauth.parseAuthRequest(request);
      const details = await oauth.describeConsent(asked);
      const consent = await oauth.beginConsent(asked);
      consent.headers.set("Content-Type", "text/html; charset=utf-8");
      return new Response(consentPage(details, consent.handle), { headers: consent.headers });
    }
    const form = await request.formData();
    const handle = String(form.get("handle"));
    if (form.get("decision") !== "approve") {
      return new Response(null, { status: 302, headers: (await oauth.denyConsent(request, handle)).headers });
    }
    const approved = await oauth.approveConsent(request, handle, { scope: form.getAll("scope").map(String) });
    const { redirectTo } = await oauth.completeAuthorization({
      request: approved.request,
      userId: "ada",
      metadata: {},
      scope: approved.request.scope,
      props: { userId: "ada" },
    });
    approved.headers.set("Location", redirectTo);
    return new Response(null, { status: 302, headers: approved.headers });
  },
};

export default new OAuthProvider({
  apiRoute: "/mcp",
  apiHandler: mcp,
  defaultHandler: pages,
  authorizeEndpoint: "/authorize",
  tokenEndpoint: "/oauth/token",
  clientRegistrationEndpoint: "/oauth/register",
  scopesSupported: ["mcp:read", "offline_access"],
  resourceMetadata: { resource: `${BASE}/mcp`, authorization_servers: [BASE] },
  requiredScopes: ["mcp:read"],
});
