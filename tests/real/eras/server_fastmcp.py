"""A FastMCP server: 2.x for 2025-11-25 and earlier, 4.x for 2026-07-28 as well.

Prints its URL once it listens on loopback.
"""

import asyncio

from fastmcp import Context, FastMCP
from pydantic import AnyUrl, BaseModel
from serving import CHOSEN, MESSAGE, NAMES, SAMPLED, Name, asks, rounds, serve, twice

try:
    from mcp_types import InputRequiredResult, ToolListChangedNotification
except ImportError:
    from mcp.types import ToolListChangedNotification

    class InputRequiredResult(BaseModel):
        """Exists in 4.x only."""


server = FastMCP("fastmcp")
levels = ["debug", "warning"]
subscribed: set[str] = set()


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
async def sample(ctx: Context) -> str | InputRequiredResult:
    if is_modern(ctx):
        return asks(ctx.input_responses, "sample", lambda answer: SAMPLED + answer.content.text)
    return SAMPLED + (await ctx.sample(MESSAGE, max_tokens=10)).text


@server.tool(output_schema=None)
async def roots(ctx: Context) -> str | InputRequiredResult:
    if is_modern(ctx):
        return asks(ctx.input_responses, "roots", lambda answer: " ".join(str(root.uri) for root in answer.roots))
    return " ".join(str(root.uri) for root in await ctx.list_roots())


@server.tool(output_schema=None)
async def url(url: str, ctx: Context) -> str | InputRequiredResult:
    if is_modern(ctx):
        return asks(ctx.input_responses, "url", lambda answer: CHOSEN + answer.action, url)
    return CHOSEN + (await ctx.session.elicit_url("Please visit this page", url, "page-1", ctx.request_id)).action


@server.tool(name="twice", output_schema=None)
async def ask_twice(ctx: Context) -> str | InputRequiredResult:
    if is_modern(ctx):
        return twice(ctx.input_responses, ctx.request_state)

    async def name(message: str) -> str:
        return (await ctx.elicit(message, Name)).data.name

    first = await name("Your name?")
    return NAMES.format(first, *await asyncio.gather(name("And yours?"), name("And theirs?")))


@server.tool(output_schema=None)
async def log(ctx: Context) -> str:
    for level in ["debug", "warning"] if is_modern(ctx) else levels:
        await ctx.log(f"a {level}", level)
    return "logged"


@server.tool(output_schema=None)
async def touch(ctx: Context) -> str:
    for uri in subscribed:
        await ctx.session.send_resource_updated(AnyUrl(uri))
    return "touched"


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
def greet(name: str) -> str:
    return f"Hello {name}"


async def complete(_ref, _argument, _context):
    from mcp.types import Completion

    return Completion(values=["Ada", "Alan"])


low = server._mcp_server
if hasattr(server, "completion"):
    server.completion(complete)
else:
    # FastMCP 2 has no functions of its own for these.
    low.completion()(complete)

    @low.set_logging_level()
    async def set_level(level) -> None:
        levels[:] = ["debug", "warning"] if level == "debug" else ["warning"]

    @low.subscribe_resource()
    async def subscribe(uri) -> None:
        subscribed.add(str(uri))

    @low.unsubscribe_resource()
    async def unsubscribe(uri) -> None:
        subscribed.discard(str(uri))

    declared = low.get_capabilities

    def get_capabilities(options, experimental):
        capabilities = declared(options, experimental)
        capabilities.resources.subscribe = True
        return capabilities

    low.get_capabilities = get_capabilities


serve(server.http_app(path="/mcp"))
