// The servers of the checks, on loopback: a small MCP server, and a registry of npm packages.

import { createHash } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:http";

async function listen(handler) {
  const server = createServer(handler);
  await once(server.listen(0, "127.0.0.1"), "listening");
  return { url: `http://127.0.0.1:${server.address().port}`, stop: () => (server.closeAllConnections(), server.close()) };
}

const TOOL = { name: "echo", description: "Says the text again", inputSchema: { type: "object" } };

/** An MCP server over Streamable HTTP with one tool. `headers` has those of the last request. */
export async function startMcpServer() {
  const seen = { headers: {} };
  const results = {
    initialize: ({ protocolVersion }) => ({
      protocolVersion,
      capabilities: { tools: {} },
      serverInfo: { name: "stub", version: "1.0.0" },
    }),
    ping: () => ({}),
    "tools/list": () => ({ tools: [TOOL] }),
    "tools/call": ({ arguments: args }) => ({ content: [{ type: "text", text: `Echo: ${args.text}` }] }),
  };
  const server = await listen((request, response) => {
    const body = [];
    request.on("data", (chunk) => body.push(chunk));
    request.on("end", () => {
      if (request.method !== "POST") return response.writeHead(405).end();
      seen.headers = request.headers;
      const { id, method, params } = JSON.parse(Buffer.concat(body));
      if (id === undefined) return response.writeHead(202).end();
      const result = results[method]?.(params);
      const answer = result ? { result } : { error: { code: -32601, message: `no such method: ${method}` } };
      response.writeHead(200, { "content-type": "application/json" });
      response.end(JSON.stringify({ jsonrpc: "2.0", id, ...answer }));
    });
  });
  return { ...server, mcpUrl: `${server.url}/mcp`, seen };
}

/** A registry with these packages only. It notes which paths are asked for. */
export async function startRegistry(packages) {
  const asked = [];
  const server = await listen((request, response) => {
    const path = decodeURIComponent(new URL(request.url, "http://registry").pathname);
    asked.push(path);
    const tarball = packages.find(({ file }) => path === `/-/${file}`);
    if (tarball) return response.writeHead(200).end(tarball.bytes);
    const found = packages.filter(({ manifest }) => path === `/${manifest.name}`);
    if (found.length === 0) return response.writeHead(404, { "content-type": "application/json" }).end("{}");
    const versions = found.map(({ manifest, bytes, file }) => {
      const dist = {
        tarball: `http://${request.headers.host}/-/${file}`,
        integrity: `sha512-${createHash("sha512").update(bytes).digest("base64")}`,
        shasum: createHash("sha1").update(bytes).digest("hex"),
      };
      return [manifest.version, { ...manifest, dist }];
    });
    const { name, version } = found.at(-1).manifest;
    // A public registry's answers are fresh for some minutes, and then asked for again; here, at once.
    response.writeHead(200, { "content-type": "application/json", "cache-control": "public, max-age=1" });
    response.end(JSON.stringify({ name, "dist-tags": { latest: version }, versions: Object.fromEntries(versions) }));
  });
  return { ...server, asked };
}
