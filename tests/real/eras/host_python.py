"""A session of a client of the Python SDK, 1.x or 2.x, or of FastMCP, 2.x or 4.x.

    python host_python.py [fastmcp] <legacy|auto|2026-07-28> <session as JSON>

The session contains the command or the URL, and the tools. Prints the result of each step as JSON.
"""

import json
import re
import sys

import anyio
from mcp import StdioServerParameters

try:
    import mcp_types as types
    from mcp import Client
except ImportError:
    from client_python1 import Client
    from mcp import types
if sys.argv[1] == "fastmcp":
    from client_fastmcp import Client

MODE, SESSION = sys.argv[-2], json.loads(sys.argv[-1])
TOOLS = SESSION["tools"]
STEP_LIMIT = 5
steps: dict[str, str] = {}
report: dict = {"steps": steps}
changes = anyio.Event()
asked: list[str] = []
visited: list = []
logs: list[str] = []
updates: list[str] = []


def words(error: BaseException) -> str:
    """Returns the innermost message of an exception group."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error) or type(error).__name__


async def step(name, body, limit=STEP_LIMIT) -> None:
    try:
        with anyio.fail_after(limit):
            await body()
        steps[name] = "ok"
    except Exception as error:
        steps[name] = words(error)


def says(text: str, *wanted: str) -> None:
    for part in wanted:
        assert part in text, f"no {part} in {text}"


async def answer(_context, params) -> types.ElicitResult:
    asked.append(params.message)
    if getattr(params, "mode", None) == "url":
        visited.append(params)
        return types.ElicitResult(action="accept")
    return types.ElicitResult(action="accept", content=SESSION["answer"])


async def sample(_context, params) -> types.CreateMessageResult:
    text = f"words after {params.messages[0].content.text}"
    return types.CreateMessageResult(role="assistant", model="test", content=types.TextContent(type="text", text=text))


async def roots(_context) -> types.ListRootsResult:
    return types.ListRootsResult(roots=[types.Root(uri="file:///srv/rooms", name="rooms")])


async def on_log(params) -> None:
    logs.append(params.data if isinstance(params.data, str) else params.data["msg"])


async def on_message(message) -> None:
    method = getattr(message, "method", None)
    if method == "notifications/tools/list_changed":
        changes.set()
    elif method == "notifications/resources/updated":
        updates.append(str(message.params.uri))


async def run(client: Client) -> None:
    is_modern = client.protocol_version == "2026-07-28"

    async def call(tool: str, **options) -> str:
        name, arguments = TOOLS[tool]
        result = await client.call_tool(name, arguments, **options)
        text = "\n".join(getattr(part, "text", "") for part in result.content)
        if getattr(result, "is_error", None) or getattr(result, "isError", None):
            raise RuntimeError(text)
        return text

    async def tools():
        says(" ".join(tool.name for tool in (await client.list_tools()).tools), TOOLS["echo"][0])

    async def text():
        says(await call("echo"), "héllo")

    async def region():
        says(await call("region"), "in Zürich")

    async def ask():
        says(await call("ask"), "Ada")

    async def progress():
        seen = []

        async def on_progress(progress, total, message):
            seen.append(int(progress))

        text = await call("steps", progress_callback=on_progress)
        pauses = SESSION.get("all") and SESSION.get("progressPauses")
        says(f"{text} {seen}", "3", "[1" if pauses else "1, 2")

    async def resources():
        assert (await client.list_resources()).resources, "no resources"

    async def prompts():
        assert (await client.list_prompts()).prompts, "no prompts"

    async def changed():
        if is_modern:
            async with client.listen(tools_list_changed=True) as subscription:
                await call("change")
                async for _ in subscription:
                    return
        else:
            await call("change")
            await changes.wait()

    async def cancel():
        with anyio.move_on_after(0.2) as scope:
            await call("wait")
        assert scope.cancelled_caught, "answered"
        await anyio.sleep(0.2)
        says(await call("echo"), "héllo")

    await step("tools", tools)
    if not SESSION.get("brief"):
        await step("text", text)
        if "region" in TOOLS:
            await step("region", region)
        await step("ask", ask)
        await step("progress", progress)
        await step("resources", resources)
        await step("prompts", prompts)
        if "change" in TOOLS:
            await step("changed", changed, 2)
        if SESSION.get("all"):
            await every_feature(client, call, is_modern)
        await step("cancel", cancel)


async def every_feature(client: Client, call, is_modern: bool) -> None:
    """Runs the steps of what bridged pairs support besides the others."""
    uri = SESSION["resource"]

    def shown(result) -> str:
        return result.model_dump_json(by_alias=True)

    async def until(condition, what: str) -> None:
        for _ in range(100):
            if condition():
                return
            await anyio.sleep(0.015)
        raise RuntimeError(f"no {what}")

    async def read():
        says(shown(await client.read_resource(uri)), SESSION["contents"])

    async def prompt():
        asked = SESSION["prompt"]
        says(shown(await client.get_prompt(asked["name"], asked["arguments"])), SESSION["prompted"])

    async def completion():
        asked = SESSION["complete"]
        reference = types.PromptReference(type="ref/prompt", name=asked["ref"]["name"])
        says(shown(await client.complete(reference, asked["argument"])), SESSION["completed"])

    async def sampling():
        says(await call("sample"), "words after")

    async def ask_roots():
        says(await call("roots"), "file:///srv/rooms")

    async def url(tool="url"):
        before = len(visited)
        text = await call(tool)
        assert re.search("accept|completed", text), text
        asked = visited[before]
        elicitation = getattr(asked, "elicitation_id", None) or getattr(asked, "elicitationId", None)
        # The two eras differ in this member.
        assert bool(elicitation) != is_modern, asked

    async def url_error():
        await url("urlError")

    async def twice():
        before = len(asked)
        says(await call("twice"), "first Ada, then Ada and Ada")
        says(" ".join(sorted(asked[before:])), "And theirs? And yours? Your name?")

    async def logging():
        if is_modern:
            await call("log", meta={"io.modelcontextprotocol/logLevel": "info"})
        else:
            await client.set_logging_level("info")
            await call("log")
        await until(lambda: "a warning" in logs, "log message")
        assert "a debug" not in logs, "a message below the level"
        if is_modern and sys.argv[1] != "fastmcp":
            # A request without a level gets no messages. FastMCP adds a level to every request.
            logs.clear()
            await call("log")
            await anyio.sleep(0.05)
            assert not logs, "a message without a level"

    async def updated():
        if is_modern:
            async with client.listen(resource_subscriptions=[uri]) as subscription:
                await call("touch")
                async for event in subscription:
                    updates.append(event.uri)
                    break
        else:
            await client.subscribe_resource(uri)
            await call("touch")
            await until(lambda: uri in updates, "update")
            await client.unsubscribe_resource(uri)
        if SESSION.get("resumes"):
            return  # it sends updates for as long as the session lasts
        await anyio.sleep(0.05)
        updates.clear()
        await call("touch")
        await anyio.sleep(0.1)
        assert not updates, "an update after the end"

    async def tasks():
        declared = client.server_capabilities.model_dump(by_alias=True, exclude_none=True)
        assert "tasks" not in declared, declared
        assert "io.modelcontextprotocol/tasks" not in declared.get("extensions", {}), declared
        if "task" in TOOLS:
            try:
                await call("task")
            except Exception as error:
                says(words(error), "task")
            else:
                raise RuntimeError("answered")

    await step("read", read)
    await step("prompt", prompt)
    await step("completion", completion)
    needs = {
        "sampling": ("sample", sampling),
        "roots": ("roots", ask_roots),
        "url": ("url", url),
        "url error": ("urlError" if is_modern else None, url_error),
        "twice": ("twice", twice),
        "logging": ("log", logging),
        "updates": ("touch", updated),
    }
    for name, (tool, body) in needs.items():
        if tool in TOOLS:
            await step(name, body)
    await step("tasks", tasks)


async def main() -> None:
    where = SESSION.get("url") or StdioServerParameters(
        command=SESSION["command"], args=SESSION["args"], env=SESSION["env"]
    )
    callbacks: dict = {"elicitation_callback": answer, "logging_callback": on_log, "message_handler": on_message}
    if SESSION.get("all"):
        callbacks |= {"sampling_callback": sample, "list_roots_callback": roots}
    try:
        async with Client(where, mode=MODE, **callbacks) as client:
            report["version"] = client.protocol_version
            await run(client)
    except Exception as error:
        report["error"] = words(error)
    print(json.dumps(report))


anyio.run(main)
