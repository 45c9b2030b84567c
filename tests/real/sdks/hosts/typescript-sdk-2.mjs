// @modelcontextprotocol/client

import { Client } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";
import { args, command, drive, names, text } from "./drive.mjs";

const client = new Client({ name: "typescript-sdk-2", version: "1.0.0" });

drive({
  connect: () => client.connect(new StdioClientTransport({ command, args })),
  tools: async () => names((await client.listTools()).tools),
  call: async (name) => text(await client.callTool({ name, arguments: {} })),
  close: () => client.close(),
});
