"""A session of the Python SDK 2.x client.

    python host_python.py <auto|2026-07-28> <session as JSON>

The session contains the command or the URL, and the tools. Prints the result of each step as JSON.
"""

import json
import sys
from contextlib import AsyncExitStack

import anyio
from mcp import Client, StdioServerParameters
from mcp_types import ElicitResult

MODE, SESSION = sys.argv[1], json.loads(sys.argv[2])
TOOLS = SESSION["tools"]
STEP_LIMIT = 5
steps: dict[str, str] = {}
report: dict = {"steps": steps}
changes = anyio.Event()


def words(error: BaseException) -> str:
    """Returns the innermost message of an exception group."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error) or type(error).__name__


async def step(name, body) -> None:
    try:
        with anyio.fail_after(STEP_LIMIT):
            await body()
        steps[name] = "ok"
    except Exception as error:
        steps[name] = words(error)


def says(text: str, *wanted: str) -> None:
    for part in wanted:
        assert part in text, f"no {part} in {text}"


async def answer(_context, _params) -> ElicitResult:
    return ElicitResult(action="accept", content=SESSION["answer"])


async def on_message(message) -> None:
    if getattr(message, "method", None) == "notifications/tools/list_changed":
        changes.set()


async def run(client: Client) -> None:
    async def call(tool: str, **options) -> str:
        name, arguments = TOOLS[tool]
        result = await client.call_tool(name, arguments, **options)
        text = "\n".join(getattr(part, "text", "") for part in result.content)
        if result.is_error:
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

        says(f"{await call('steps', progress_callback=on_progress)} {seen}", "3 ", "1, 2")

    async def resources():
        assert (await client.list_resources()).resources, "no resources"

    async def prompts():
        assert (await client.list_prompts()).prompts, "no prompts"

    async def changed():
        if client.protocol_version == "2026-07-28":
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
            await step("changed", changed)
        await step("cancel", cancel)


async def main() -> None:
    where = SESSION.get("url") or StdioServerParameters(
        command=SESSION["command"], args=SESSION["args"], env=SESSION["env"]
    )
    try:
        async with Client(where, mode=MODE, elicitation_callback=answer, message_handler=on_message) as client:
            report["version"] = client.protocol_version
            await run(client)
    except Exception as error:
        report["error"] = words(error)
    print(json.dumps(report))


anyio.run(main)
