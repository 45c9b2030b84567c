"""FastMCP's OIDC proxy: registration and consent page, in front of an identity provider with one client."""

import os

from fastmcp import FastMCP
from fastmcp.server.auth.oidc_proxy import OIDCProxy

port = int(os.environ["PORT"])
auth = OIDCProxy(
    config_url=f"http://127.0.0.1:{os.environ['AUTH_PORT']}/.well-known/openid-configuration",
    client_id="fastmcp",
    client_secret="of no worth",
    base_url=f"http://127.0.0.1:{port}",
    required_scopes=["mcp:use"],
    token_endpoint_auth_method="client_secret_post",
    forward_resource=False,
)
server = FastMCP("oidc-proxy", auth=auth)


@server.tool
def multiply(a: int, b: int) -> int:
    return a * b


server.run(transport="http", host="127.0.0.1", port=port, show_banner=False)
