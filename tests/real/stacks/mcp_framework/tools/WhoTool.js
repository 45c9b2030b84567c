import { MCPTool } from "mcp-framework";
import { z } from "zod";

export default class WhoTool extends MCPTool {
  name = "who";
  description = "user of the token";
  schema = z.object({ greeting: z.string().describe("how to greet") });

  async execute({ greeting }) {
    return `${greeting}, whoever you are`;
  }
}
