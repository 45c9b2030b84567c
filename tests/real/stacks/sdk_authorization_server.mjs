// The authorization server of the TypeScript SDK's examples as a program, for the Python stacks.

import { setupAuthServer } from "@modelcontextprotocol/sdk/examples/server/demoInMemoryOAuthProvider.js";

const { PORT, AUTH_PORT } = process.env;
setupAuthServer({ authServerUrl: new URL(`http://localhost:${AUTH_PORT}`), mcpServerUrl: new URL(`http://localhost:${PORT}/mcp`), strictResource: false });
