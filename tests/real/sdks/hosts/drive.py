"""How sdks.mjs drives a library: a command on each line of stdin (`connect`, `tools`,
`call NAME`, `close`), an answer in JSON on a line of stdout."""

import asyncio
import json
import sys
import time
import traceback

# The adapter that the host starts.
command, *args = sys.argv[1:]


def names(tools):
    return [tool.name for tool in tools]


def text(result):
    return "\n".join(getattr(part, "text", "") for part in result.content)


def say(**answer):
    print(json.dumps(answer), flush=True)


async def _drive(host):
    say(value="ready")
    while line := (await asyncio.to_thread(sys.stdin.readline)).strip():
        what, *rest = line.split(" ")
        began = time.perf_counter()

        def ms():
            return (time.perf_counter() - began) * 1000

        try:
            value = await getattr(host, what)(*rest)
            say(value=value, ms=ms())
        except BaseException as error:
            if isinstance(error, (KeyboardInterrupt, SystemExit)):
                raise
            say(error=traceback.format_exc(), message=f"{type(error).__name__}: {error}", ms=ms())


def drive(host):
    """`host` has `connect`, `tools` (names), `call` (text) and `close`, all in one task."""
    asyncio.run(_drive(host))
