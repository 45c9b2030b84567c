// @ai-sdk/mcp; AI_SDK names the version's package

import { args, command, drive, text } from "./drive.mjs";

const version = process.env.AI_SDK ?? "@ai-sdk/mcp";
const { createMCPClient, experimental_createMCPClient } = await import(version);
const { Experimental_StdioMCPTransport: Transport } = await import(`${version}/mcp-stdio`);
let client;
let tools = {};

drive({
  async connect() {
    client = await (createMCPClient ?? experimental_createMCPClient)({ transport: new Transport({ command, args }) });
  },
  tools: async () => Object.keys((tools = await client.tools())),
  call: async (name) => text(await tools[name].execute({}, { toolCallId: "1", messages: [] })),
  close: () => client?.close(),
});
