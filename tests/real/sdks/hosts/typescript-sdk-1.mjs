// @modelcontextprotocol/sdk

import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { args, command, drive, names, text } from "./drive.mjs";

const client = new Client({ name: "typescript-sdk-1", version: "1.0.0" });

drive({
  connect: () => client.connect(new StdioClientTransport({ command, args })),
  tools: async () => names((await client.listTools()).tools),
  call: async (name) => text(await client.callTool({ name, arguments: {} })),
  close: () => client.close(),
});
