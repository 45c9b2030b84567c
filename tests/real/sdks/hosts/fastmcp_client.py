"""fastmcp"""

from contextlib import AsyncExitStack

from drive import args, command, drive, names, text
from fastmcp import Client
from fastmcp.client.transports import StdioTransport


class Host:
    async def connect(self):
        self.stack = AsyncExitStack()
        client = Client(StdioTransport(command=command, args=args, keep_alive=False))
        self.client = await self.stack.enter_async_context(client)

    async def tools(self):
        return names(await self.client.list_tools())

    async def call(self, name):
        return text(await self.client.call_tool(name, {}))

    async def close(self):
        await self.stack.aclose()


drive(Host())
