"""mcp 2"""

from contextlib import AsyncExitStack

from drive import args, command, drive, names, text
from mcp import Client, StdioServerParameters


class Host:
    async def connect(self):
        self.stack = AsyncExitStack()
        client = Client(StdioServerParameters(command=command, args=args))
        self.client = await self.stack.enter_async_context(client)

    async def tools(self):
        return names((await self.client.list_tools()).tools)

    async def call(self, name):
        return text(await self.client.call_tool(name, {}))

    async def close(self):
        await self.stack.aclose()


drive(Host())
