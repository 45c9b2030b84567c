// Runs worker.mjs in workerd, the runtime of Cloudflare Workers, through Miniflare.

import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { Miniflare } from "miniflare";

const base = `http://127.0.0.1:${process.env.PORT}`;
const { outputFiles } = await build({
  entryPoints: [fileURLToPath(new URL("./worker.mjs", import.meta.url))],
  bundle: true,
  write: false,
  format: "esm",
  target: "es2022",
  conditions: ["workerd", "worker", "browser"],
  external: ["cloudflare:*", "node:*"],
  define: { BASE: JSON.stringify(base) },
});
const miniflare = new Miniflare({
  modules: [{ type: "ESModule", path: "worker.mjs", contents: outputFiles[0].text }],
  compatibilityDate: "2026-04-01",
  compatibilityFlags: ["nodejs_compat"],
  kvNamespaces: ["OAUTH_KV"],
  host: "127.0.0.1",
  port: Number(process.env.PORT),
  cf: false,
});
await miniflare.ready;
process.once("SIGTERM", async () => {
  await miniflare.dispose();
  process.exit(0);
});
