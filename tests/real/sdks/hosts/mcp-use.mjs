// mcp-use

import { MCPClient } from "mcp-use/client";
import { args, command, drive, names, text } from "./drive.mjs";

const client = new MCPClient({ mcpServers: { it: { command, args } } });
let session;

drive({
  async connect() {
    session = await client.createSession("it");
  },
  tools: async () => names(await session.listTools()),
  call: async (name) => text(await session.callTool(name, {})),
  close: () => client.closeAllSessions(),
});
