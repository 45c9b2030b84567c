"""FastMCP as a resource server only: the client registers and signs in with the identity provider."""

import os

from fastmcp import FastMCP
from fastmcp.server.auth import RemoteAuthProvider
from fastmcp.server.auth.providers.jwt import JWTVerifier

port = int(os.environ["PORT"])
issuer = f"http://127.0.0.1:{os.environ['AUTH_PORT']}"
auth = RemoteAuthProvider(
    token_verifier=JWTVerifier(jwks_uri=f"{issuer}/jwks", issuer=issuer, required_scopes=["mcp:use"]),
    authorization_servers=[issuer],
    base_url=f"http://127.0.0.1:{port}",
)
server = FastMCP("remote", auth=auth)


@server.tool
def divide(a: float, b: float) -> float:
    return a / b


server.run(transport="http", host="127.0.0.1", port=port, show_banner=False)
