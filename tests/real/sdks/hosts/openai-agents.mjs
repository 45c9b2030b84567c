// @openai/agents: its part that speaks MCP

import { MCPServerStdio } from "@openai/agents-core";
import { args, command, drive, names } from "./drive.mjs";

const server = new MCPServerStdio({ name: "it", command, args, cacheToolsList: false });

drive({
  connect: () => server.connect(),
  tools: async () => names(await server.listTools()),
  call: async (name) => (await server.callTool(name, {})).map((part) => part.text ?? "").join("\n"),
  close: () => server.close(),
});
