"""langchain-mcp-adapters: a process for each list and for each call"""

from drive import args, command, drive, names
from langchain_mcp_adapters.client import MultiServerMCPClient


class Host:
    async def connect(self):
        server = {"transport": "stdio", "command": command, "args": args}
        self.client = MultiServerMCPClient({"it": server})

    async def tools(self):
        self.listed = await self.client.get_tools()
        return names(self.listed)

    async def call(self, name):
        tool = next(tool for tool in self.listed if tool.name == name)
        return str(await tool.ainvoke({}))

    async def close(self):
        pass


drive(Host())
