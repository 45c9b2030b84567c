"""mcp 1"""

from contextlib import AsyncExitStack

from drive import args, command, drive, names, text
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client


class Host:
    async def connect(self):
        self.stack = AsyncExitStack()
        server = StdioServerParameters(command=command, args=args)
        read, write = await self.stack.enter_async_context(stdio_client(server))
        self.session = await self.stack.enter_async_context(ClientSession(read, write))
        await self.session.initialize()

    async def tools(self):
        return names((await self.session.list_tools()).tools)

    async def call(self, name):
        return text(await self.session.call_tool(name, {}))

    async def close(self):
        await self.stack.aclose()


drive(Host())
