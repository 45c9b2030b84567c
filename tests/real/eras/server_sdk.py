"""A Python SDK server: 1.x for 2025-11-25 and earlier, 2.x for 2026-07-28 as well.

Prints its URL once it listens on loopback.
"""

import asyncio

from pydantic import AnyUrl, BaseModel
from serving import CHOSEN, MESSAGE, NAMES, NOTE, SAMPLED, Name, asks, rounds, serve, twice

try:
    from mcp.server.mcpserver import Context, MCPServer as Server
    from mcp_types import InputRequiredResult
except ImportError:
    from mcp.server.fastmcp import Context, FastMCP as Server

    class InputRequiredResult(BaseModel):
        """Exists in 2.x only."""


server = Server("python-sdk")
levels = ["debug", "warning"]
subscribed: set[str] = set()


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
async def sample(ctx: Context) -> str | InputRequiredResult:
    if is_modern(ctx):
        return asks(ctx.input_responses, "sample", lambda answer: SAMPLED + answer.content.text)
    from mcp.types import SamplingMessage, TextContent

    messages = [SamplingMessage(role="user", content=TextContent(type="text", text=MESSAGE))]
    result = await ctx.session.create_message(messages, max_tokens=10, related_request_id=ctx.request_id)
    return SAMPLED + result.content.text


@server.tool()
async def roots(ctx: Context) -> str | InputRequiredResult:
    if is_modern(ctx):
        return asks(ctx.input_responses, "roots", lambda answer: " ".join(str(root.uri) for root in answer.roots))
    # The Python SDK 1.30 sends this request to the stream of the session.
    return " ".join(str(root.uri) for root in (await ctx.session.list_roots()).roots)


@server.tool()
async def url(url: str, ctx: Context) -> str | InputRequiredResult:
    if is_modern(ctx):
        return asks(ctx.input_responses, "url", lambda answer: CHOSEN + answer.action, url)
    return CHOSEN + (await ctx.elicit_url("Please visit this page", url, "page-1")).action


@server.tool(name="twice")
async def ask_twice(ctx: Context) -> str | InputRequiredResult:
    if is_modern(ctx):
        return twice(ctx.input_responses, ctx.request_state)

    async def name(message: str) -> str:
        return (await ctx.elicit(message, Name)).data.name

    first = await name("Your name?")
    return NAMES.format(first, *await asyncio.gather(name("And yours?"), name("And theirs?")))


@server.tool()
async def log(ctx: Context) -> str:
    for level in ["debug", "warning"] if is_modern(ctx) else levels:
        await ctx.log(level, f"a {level}")
    return "logged"


@server.tool()
async def touch(ctx: Context) -> str:
    if is_modern(ctx):
        await ctx.notify_resource_updated(NOTE)
    else:
        for uri in subscribed:
            await ctx.session.send_resource_updated(AnyUrl(uri))
    return "touched"


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
def greet(name: str) -> str:
    return f"Hello {name}"


@server.completion()
async def complete(_ref, _argument, _context):
    from mcp.types import Completion

    return Completion(values=["Ada", "Alan"])


low = getattr(server, "_mcp_server", None)
if low is not None:
    # The Python SDK 1.30 declares less than a server can do.
    from mcp.server.lowlevel import NotificationOptions

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

    def get_capabilities(_options, experimental):
        capabilities = declared(NotificationOptions(tools_changed=True), experimental)
        capabilities.resources.subscribe = True
        return capabilities

    low.get_capabilities = get_capabilities


serve(server.streamable_http_app())
