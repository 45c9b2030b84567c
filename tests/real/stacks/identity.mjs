// The identity provider behind the frameworks' authorization servers: oidc-provider
// with its own sign-in and consent pages.

import { once } from "node:events";
import { exportJWK, generateKeyPair } from "jose";
import { Provider } from "oidc-provider";

/**
 * Starts the identity provider with one static client (`clientId`, `clientSecret`, `redirectUris`),
 * with dynamic registration (`registration`), or both. Tokens for `resources` are JWTs.
 */
export async function startIdentity({ port, clientId, clientSecret, redirectUris, registration = false, resources = [], scopes = "mcp:use" }) {
  const issuer = `http://127.0.0.1:${port}`;
  const { privateKey } = await generateKeyPair("RS256", { extractable: true });
  const clients = clientId ? [{ client_id: clientId, client_secret: clientSecret, redirect_uris: redirectUris, grant_types: ["authorization_code", "refresh_token"], token_endpoint_auth_method: "client_secret_post" }] : [];
  const provider = new Provider(issuer, {
    clients,
    scopes: ["openid", "offline_access", "profile", "email", ...scopes.split(" ")],
    cookies: { keys: ["of no worth"] },
    findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id, name: id, email: `${id}@example.com` }) }),
    jwks: { keys: [{ ...(await exportJWK(privateKey)), alg: "RS256", use: "sig" }] },
    pkce: { required: () => false },
    features: {
      devInteractions: { enabled: true },
      registration: { enabled: registration },
      introspection: { enabled: true },
      revocation: { enabled: true },
      resourceIndicators: {
        enabled: resources.length > 0,
        defaultResource: () => resources[0],
        useGrantedResource: () => true,
        getResourceServerInfo: (_, audience) => ({ scope: scopes, audience, accessTokenFormat: "jwt", accessTokenTTL: 600, jwt: { sign: { alg: "RS256" } } }),
      },
    },
  });
  provider.on("server_error", (_, error) => console.error(error));
  for (const kind of ["authorization", "grant", "registration_create"]) {
    provider.on(`${kind}.error`, (_, error) => console.error(`${kind}: ${error.error}: ${error.error_description}`));
  }
  const server = provider.listen(Number(port), "127.0.0.1");
  await once(server, "listening");
  return { issuer };
}
