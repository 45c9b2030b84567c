"""A Python SDK server: 1.x for 2025-11-25 and earlier, 2.x for 2026-07-28 as well.

Prints its URL once it listens on loopback.
"""

import asyncio

from pydantic import BaseModel
from serving import Name, rounds, serve

try:
    from mcp.server.mcpserver import Context, MCPServer as Server
    from mcp_types import InputRequiredResult
except ImportError:
    from mcp.server.fastmcp import Context, FastMCP as Server

    class InputRequiredResult(BaseModel):
        """Exists in 2.x only."""


server = Server("python-sdk")


def is_modern(ctx: Context) -> bool:
    return (getattr(ctx, "protocol_version", None) or "") >= "2026"


@server.tool()
def echo(text: str) -> str:
    return f"echo {text}"


@server.tool()
async def ask(ctx: Context) -> str | InputRequiredResult:
    if is_modern(ctx):
        return rounds(ctx.input_responses)
    answer = await ctx.elicit("Your name?", Name)
    return f"hello {answer.data.name}"


@server.tool()
async def steps(ctx: Context) -> str:
    for step in (1, 2, 3):
        await ctx.report_progress(step, 3)
        await asyncio.sleep(0.03)
    return "3 steps"


@server.tool()
async def change(ctx: Context) -> str:
    if is_modern(ctx):
        await ctx.notify_tools_changed()
    else:
        await ctx.session.send_tool_list_changed()
    return "changed"


@server.tool()
async def wait() -> str:
    await asyncio.sleep(20)
    return "waited"


@server.resource("note://one")
def note() -> str:
    return "one"


@server.prompt()
def greet() -> str:
    return "Hello"


serve(server.streamable_http_app())
