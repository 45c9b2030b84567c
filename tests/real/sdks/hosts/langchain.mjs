// @langchain/mcp-adapters

import { MultiServerMCPClient } from "@langchain/mcp-adapters";
import { args, command, drive, names } from "./drive.mjs";

const client = new MultiServerMCPClient({ mcpServers: { it: { transport: "stdio", command, args } } });
let tools = [];

drive({
  connect: () => client.initializeConnections().then(() => undefined),
  tools: async () => names((tools = await client.getTools())),
  call: async (name) => String(await tools.find((tool) => tool.name === name).invoke({})),
  close: () => client.close(),
});
