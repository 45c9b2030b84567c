// The pages at the end of a sign-in, seen by a real browser: what they say, that
// they fetch nothing and run nothing, that they can be read in the light and in
// the dark, and on a phone.
//
//   node pages.mjs <adapter> <chromium>
//
// Prints one line per check (`ok ...` / `FAIL ...`) and exits 1 if any failed.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import path from "node:path";
import { check, equals, failed, must, until } from "./checks.mjs";
import { startPerson } from "./person.mjs";
import { ByHand } from "./programs.mjs";

const [adapter, chromium] = process.argv.slice(2);
if (!adapter || !chromium) {
  console.error("usage: node pages.mjs <adapter> <chromium>");
  process.exit(2);
}

/** WCAG 2.2 §1.4.3, for text of ordinary size. */
const LEAST_CONTRAST = 4.5;
/** The narrowest screen that WCAG 2.2 §1.4.10 asks for, in CSS pixels. */
const NARROW = 320;

/** A protected server and its authorization server in one, which sends the browser back at once. */
async function startServer({ back = {}, token = { status: 200 } }) {
  const server = createServer(async (request, response) => {
    const url = new URL(request.url, origin);
    const json = (status, content, headers = {}) => {
      response.writeHead(status, { "content-type": "application/json", ...headers });
      response.end(JSON.stringify(content));
    };
    switch (url.pathname) {
      case "/mcp":
        return json(401, {}, { "www-authenticate": `Bearer resource_metadata="${origin}/resource"` });
      case "/resource":
        return json(200, { resource: `${origin}/mcp`, authorization_servers: [origin] });
      case "/.well-known/oauth-authorization-server":
        return json(200, {
          issuer: origin,
          authorization_endpoint: `${origin}/authorize`,
          token_endpoint: `${origin}/token`,
          registration_endpoint: `${origin}/register`,
          response_types_supported: ["code"],
          code_challenge_methods_supported: ["S256"],
          authorization_response_iss_parameter_supported: true,
        });
      case "/register": {
        let body = "";
        for await (const chunk of request) body += chunk;
        return json(201, { ...JSON.parse(body), client_id: "it" });
      }
      case "/authorize": {
        const to = new URL(url.searchParams.get("redirect_uri"));
        const answer = { code: "c", iss: origin, state: url.searchParams.get("state"), ...back };
        for (const [name, value] of Object.entries(answer)) if (value !== null) to.searchParams.set(name, value);
        response.writeHead(302, { location: to.href });
        return response.end();
      }
      case "/token": {
        const content = { access_token: "t", token_type: "Bearer", expires_in: 60, ...token.content };
        return json(token.status, token.status === 200 ? content : token.content);
      }
      default:
        return json(404, {});
    }
  });
  await once(server.listen(0, "127.0.0.1"), "listening");
  const host = `127.0.0.1:${server.address().port}`;
  const origin = `http://${host}`;
  return { host, url: `${origin}/mcp`, stop: () => server.close() };
}

/** A browser, through its debugging protocol. */
class Browser {
  static async start(folder) {
    const flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", `--user-data-dir=${folder}`];
    const child = spawn(chromium, flags, { stdio: ["ignore", "ignore", "pipe"] });
    let told = "";
    child.stderr.setEncoding("utf8").on("data", (text) => (told += text));
    await until(() => /DevTools listening on (ws:\S+)/.test(told), "the browser's debugging port", 20_000);
    const socket = new WebSocket(told.match(/DevTools listening on (ws:\S+)/)[1]);
    await once(socket, "open");
    return new Browser(child, socket);
  }

  constructor(child, socket) {
    Object.assign(this, { child, socket, count: 0, waiting: new Map(), events: [] });
    socket.addEventListener("message", ({ data }) => {
      const message = JSON.parse(data);
      if (message.id) this.waiting.get(message.id)?.(message);
      else this.events.push(message);
    });
  }

  async ask(method, params = {}) {
    const id = (this.count += 1);
    const answered = new Promise((resolve) => this.waiting.set(id, resolve));
    this.socket.send(JSON.stringify({ id, method, params, sessionId: this.session }));
    const { result, error } = await answered;
    if (error) throw new Error(`${method}: ${error.message}`);
    return result;
  }

  /** Opens an address in a new tab, as wide as this, and waits until it is there. */
  async open(url) {
    this.session = undefined;
    const { targetId } = await this.ask("Target.createTarget", { url: "about:blank" });
    const { sessionId } = await this.ask("Target.attachToTarget", { targetId, flatten: true });
    this.session = sessionId;
    this.events.length = 0;
    for (const domain of ["Page", "Network", "Log", "Runtime"]) await this.ask(`${domain}.enable`);
    await this.ask("Page.navigate", { url });
    await until(() => this.events.some(({ method }) => method === "Page.loadEventFired"), "the page is loaded");
  }

  seen = (method) => this.events.filter((event) => event.method === method).map(({ params }) => params);

  async run(script) {
    const { result, exceptionDetails } = await this.ask("Runtime.evaluate", { expression: script, returnByValue: true });
    if (exceptionDetails) throw new Error(JSON.stringify(exceptionDetails));
    return result.value;
  }

  async stop() {
    this.socket.close();
    this.child.kill();
    await once(this.child, "exit");
  }
}

/** In the page: every text that is shown, and its contrast to what is behind it. */
const CONTRASTS = `(() => {
  const parse = (color) => { const [r, g, b, a = 1] = color.match(/[\\d.]+/g).map(Number); return { rgb: [r, g, b], a }; };
  const luminance = ([...rgb]) => {
    const [r, g, b] = rgb.map((c) => ((c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const { rgb, a } = parse(getComputedStyle(at).backgroundColor);
      if (a > 0) return rgb;
    }
    return matchMedia("(prefers-color-scheme: dark)").matches ? [18, 18, 18] : [255, 255, 255];
  };
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const found = [];
  for (let node; (node = texts.nextNode()); ) {
    const element = node.parentElement;
    if (!node.data.trim() || element.getClientRects().length === 0) continue;
    const [one, other] = [parse(getComputedStyle(element).color).rgb, behind(element)].map(luminance).sort((a, b) => b - a);
    found.push({ text: node.data.trim(), contrast: (one + 0.05) / (other + 0.05) });
  }
  return found;
})()`;

const folder = await mkdtemp(path.join(tmpdir(), "pages-"));
const person = await startPerson(folder);
person.manner = "leave";
const browser = await Browser.start(path.join(folder, "profile"));

async function page(name, settings, title, ...words) {
  const server = await startServer(settings);
  const store = path.join(folder, `store-${name.replaceAll(" ", "-")}`);
  const host = new ByHand([adapter, server.url], { MCP_REMOTE_CONFIG_DIR: store, BROWSER: person.browser });
  await check(`pages: ${name}`, async () => {
    const tab = person.nextTab();
    host.initialize(1);
    await browser.open(await tab);
    equals(await browser.run("document.title"), title, "the title");
    const text = await browser.run("document.body.innerText");
    for (const word of [server.host, ...words]) must(text.includes(word), `the page says ${word}`, text);

    const documents = browser.seen("Network.requestWillBeSent").map(({ type, request }) => `${type} ${request.url}`);
    must(documents.every((asked) => asked.startsWith("Document ")), "the page fetches nothing", documents);
    const complaints = [
      ...browser.seen("Log.entryAdded").map(({ entry }) => entry).filter(({ source }) => source !== "network"),
      ...browser.seen("Runtime.exceptionThrown"),
    ];
    equals(complaints, [], "complaints of the browser");
    equals(await browser.run("document.scripts.length"), 0, "scripts");

    for (const scheme of ["light", "dark"]) {
      await browser.ask("Emulation.setEmulatedMedia", { features: [{ name: "prefers-color-scheme", value: scheme }] });
      const pale = (await browser.run(CONTRASTS)).filter(({ contrast }) => contrast < LEAST_CONTRAST);
      equals(pale, [], `texts that cannot be read in the ${scheme}`);
    }
    const screen = { width: NARROW, height: 640, deviceScaleFactor: 1, mobile: true };
    await browser.ask("Emulation.setDeviceMetricsOverride", screen);
    const wide = await browser.run("document.documentElement.scrollWidth");
    must(wide <= NARROW, `nothing sticks out of a screen of ${NARROW} pixels`, wide);
  }, { told: () => host.stderr });
  await host.end();
  server.stop();
}

await page("a sign-in that worked", {}, "Signed in", "authorization-check");
await page(
  "a refusal, with words that want to be markup",
  { back: { code: null, error: "access_denied", error_description: "<img src=x onerror=alert(1)> not you" } },
  "Sign-in failed",
  "access_denied",
  "<img src=x onerror=alert(1)> not you",
);
await page("an answer from another authorization server", { back: { iss: "https://evil.example" } }, "Sign-in failed");
await page(
  "a code that cannot be exchanged",
  { token: { status: 400, content: { error: "invalid_grant", error_description: "too late" } } },
  "Sign-in failed",
  "too late",
);

await browser.stop();
person.stop();
process.exit(failed === 0 ? 0 : 1);
