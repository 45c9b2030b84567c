"""openai-agents"""

from agents.mcp import MCPServerStdio
from drive import args, command, drive, names, text


class Host:
    def __init__(self):
        self.server = MCPServerStdio(params={"command": command, "args": args})

    async def connect(self):
        await self.server.connect()

    async def tools(self):
        return names(await self.server.list_tools())

    async def call(self, name):
        return text(await self.server.call_tool(name, {}))

    async def close(self):
        await self.server.cleanup()


drive(Host())
