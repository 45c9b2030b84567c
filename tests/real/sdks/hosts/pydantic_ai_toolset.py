"""pydantic-ai"""

from contextlib import AsyncExitStack

from drive import args, command, drive, names
from fastmcp.client.transports import StdioTransport
from pydantic_ai.mcp import MCPToolset


class Host:
    async def connect(self):
        self.stack = AsyncExitStack()
        transport = StdioTransport(command=command, args=args, keep_alive=False)
        self.toolset = await self.stack.enter_async_context(MCPToolset(transport))

    async def tools(self):
        return names(await self.toolset.list_tools())

    async def call(self, name):
        return str(await self.toolset.direct_call_tool(name, {}))

    async def close(self):
        await self.stack.aclose()


drive(Host())
