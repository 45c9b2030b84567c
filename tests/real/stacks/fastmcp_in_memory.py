"""FastMCP with its in-memory OAuth provider, which approves without a page."""

import os

from fastmcp import FastMCP
from fastmcp.server.auth.auth import ClientRegistrationOptions
from fastmcp.server.auth.providers.in_memory import InMemoryOAuthProvider
from fastmcp.server.dependencies import get_access_token

port = int(os.environ["PORT"])
auth = InMemoryOAuthProvider(
    base_url=f"http://127.0.0.1:{port}",
    client_registration_options=ClientRegistrationOptions(enabled=True),
)
server = FastMCP("in-memory", auth=auth)


@server.tool
def add(a: int, b: int) -> int:
    return a + b


@server.tool
def who() -> str:
    return get_access_token().client_id


server.run(transport="http", host="127.0.0.1", port=port, show_banner=False)
