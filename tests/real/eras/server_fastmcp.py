"""A FastMCP server: 2.x for 2025-11-25 and earlier, 4.x for 2026-07-28 as well.

Prints its URL once it listens on loopback.
"""

import asyncio

from fastmcp import Context, FastMCP
from pydantic import BaseModel
from serving import Name, rounds, serve

try:
    from mcp_types import InputRequiredResult, ToolListChangedNotification
except ImportError:
    from mcp.types import ToolListChangedNotification

    class InputRequiredResult(BaseModel):
        """Exists in 4.x only."""


server = FastMCP("fastmcp")


def is_modern(ctx: Context) -> bool:
    return getattr(ctx.session, "protocol_version", None) == "2026-07-28"


@server.tool(output_schema=None)
def echo(text: str) -> str:
    return f"echo {text}"


@server.tool(output_schema=None)
async def ask(ctx: Context) -> str | InputRequiredResult:
    if is_modern(ctx):
        return rounds(ctx.input_responses)
    answer = await ctx.elicit("Your name?", Name)
    return f"hello {answer.data.name}"


@server.tool(output_schema=None)
async def steps(ctx: Context) -> str:
    for step in (1, 2, 3):
        await ctx.report_progress(step, 3)
        await asyncio.sleep(0.03)
    return "3 steps"


@server.tool(output_schema=None)
async def change(ctx: Context) -> str:
    if hasattr(ctx, "send_notification"):
        await ctx.send_notification(ToolListChangedNotification())
    else:
        await ctx.send_tool_list_changed()
    return "changed"


@server.tool(output_schema=None)
async def wait() -> str:
    await asyncio.sleep(20)
    return "waited"


@server.resource("note://one")
def note() -> str:
    return "one"


@server.prompt
def greet() -> str:
    return "Hello"


serve(server.http_app(path="/mcp"))
