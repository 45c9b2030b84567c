// Signing in through the adapter, driven by the official inspector, at a server
// that others wrote (protected-server.mjs).
//
//   node authorization.mjs <adapter>
//
// Prints one line per check (`ok ...` / `FAIL ...`) and exits 1 if any failed.

import path from "node:path";
import { check, equals, failed, must, until } from "./checks.mjs";
import { ByHand, Session, run, stored } from "./programs.mjs";
import { line, showRequests, world } from "./world.mjs";

const [adapter] = process.argv.slice(2);
if (!adapter) {
  console.error("usage: node authorization.mjs <adapter>");
  process.exit(2);
}

/** Its companion, installed beside it. */
const client = path.join(path.dirname(adapter), `mcp-remote-client${path.extname(adapter)}`);
/** Short enough to wait for, in seconds. */
const SHORT_LIFE = 4;
/** How long npm is given to end, in ms. */
const NPM_PATIENCE = 3_000;

const names = ({ tools }) => tools.map((tool) => tool.name).sort();
const text = ({ content }) => content[0].text;

async function codeWithBrowser() {
  const w = await world(adapter);
  const { server, person, told } = w;

  await check("sign-in: a cold start opens one tab, registers once, and the host gets the tools", async () => {
    equals(names(await w.ask([], "--method", "tools/list")), ["read", "write"], "the tools");
    equals(person.tabs.length, 1, "tabs");
    equals(server.registrations.length, 1, "registrations");
    equals(server.grants.map((grant) => grant.type), ["authorization_code"], "grants");
    await until(() => person.pages.length === 1, "the page at the end");
    must(person.pages[0].status === 200 && /signed in/i.test(person.pages[0].text), "the page says so", person.pages[0]);
  }, { told });

  await check("sign-in: nothing is asked for twice, and nothing that is not needed", async () => {
    const asked = showRequests("mcp-remote", server);
    const isStream = (asked) => asked.endsWith("GET /mcp");
    must(asked.filter(isStream).length <= 1, "at most one stream", asked);
    equals(asked.filter((asked) => !isStream(asked)), [
      "401 POST /mcp initialize",
      "200 GET /.well-known/oauth-protected-resource/mcp",
      "200 GET /.well-known/oauth-authorization-server",
      "201 POST /reg",
      "200 POST /token",
      "200 POST /mcp initialize",
      "202 POST /mcp notifications/initialized",
      "200 POST /mcp tools/list",
    ], "the requests");
  }, { told });

  await check("sign-in: a second start opens no tab and asks the authorization server nothing", async () => {
    const mark = server.requests.length;
    equals(text(await w.ask([], "--method", "tools/call", "--tool-name", "read")), "with mcp:read", "the tool");
    equals(person.tabs.length, 1, "tabs");
    const strangers = server.requests.slice(mark).map(line).filter((l) => !/ \/mcp\b/.test(l) || l.startsWith("401"));
    equals(strangers, [], "other requests");
  }, { told });

  await check("step-up: a tool that wants more is called after one more consent, with a wider registration", async () => {
    const before = await stored(w.store, "client_info");
    equals(text(await w.ask([], "--method", "tools/call", "--tool-name", "write")), "with mcp:read mcp:write", "the tool");
    const after = await stored(w.store, "client_info");
    must(before.client_id !== after.client_id, "another registration");
    must(after.scope.split(" ").includes("mcp:write"), "with the scope", after.scope);
    equals(person.tabs.length, 2, "tabs");
  }, { told });

  await check("step-up: the narrower right is kept, and the next start needs no tab", async () => {
    const tabs = person.tabs.length;
    equals(text(await w.ask([], "--method", "tools/call", "--tool-name", "read")), "with mcp:read mcp:write", "read");
    equals(text(await w.ask([], "--method", "tools/call", "--tool-name", "write")), "with mcp:read mcp:write", "write");
    equals(person.tabs.length, tabs, "tabs");
  }, { told });

  await check("status: says who, until when and with what scope, and no secret", async () => {
    const plain = await run([adapter, "status"], w.env);
    must(plain.code === 0 && plain.out.includes(server.mcpUrl) && plain.out.includes("mcp:write"), "the server and the scope", plain);
    const json = await run([adapter, "status", server.mcpUrl, "--json"], w.env);
    const [shown] = JSON.parse(json.out);
    equals([shown.server, shown.issuer, shown.expired, shown.refreshable], [server.mcpUrl, server.issuer, false, true], "it says");
    must(Math.abs(Date.parse(shown.expires_at) - Date.now() - 600_000) < 60_000, "the end, ten minutes from sign-in", shown);
    const { access_token: access, refresh_token: refresh } = await stored(w.store, "tokens");
    must(access && refresh && ![access, refresh].some((secret) => (plain.out + json.out).includes(secret)), "no secret");
  }, { told });

  await check("logout: the refresh token is dead at the server, and nobody is signed in", async () => {
    const { refresh_token: refresh } = await stored(w.store, "tokens");
    const { client_id: client } = await stored(w.store, "client_info");
    const said = await run([adapter, "logout", server.mcpUrl], w.env);
    must(said.code === 0, "it succeeds", said);
    equals(await server.spend(refresh, client), "invalid_grant", "the refresh token");
    must(/revoked/.test(said.out) && !/could not/.test(said.out), "it says that the tokens are revoked", said.out);
    equals(JSON.parse((await run([adapter, "status", "--json"], w.env)).out), [], "who is signed in");
  }, { told });

  await check("sign-in: after that a new one opens one tab", async () => {
    const tabs = person.tabs.length;
    equals(names(await w.ask([], "--method", "tools/list")), ["read", "write"], "the tools");
    equals(person.tabs.length - tabs, 1, "tabs");
  }, { told });

  await check("sign-in: a registration that the server has lost is made anew before a tab opens", async () => {
    const { client_id: client } = await stored(w.store, "client_info");
    await server.forgetClient(client);
    server.refuseKnownTokens();
    const tabs = person.tabs.length;
    equals(names(await w.ask([], "--method", "tools/list")), ["read", "write"], "the tools");
    equals(person.tabs.length - tabs, 1, "tabs");
    must((await stored(w.store, "client_info")).client_id !== client, "another registration");
  }, { told });

  await w.stop();
}

async function stepUp() {
  const w = await world(adapter);
  const { server, person, told } = w;
  const session = await new Session(w.ours(), w.env).open();

  await check("step-up: no is an answer, and costs nobody the sign-in there is", async () => {
    person.manner = "deny";
    const refused = await session.call("write").then(() => undefined, (error) => error);
    must(/access_denied/.test(refused?.message), "the reason", refused?.message);
    equals(await session.call("read"), "with mcp:read", "the session goes on");
    server.refuseKnownTokens();
    const tabs = person.tabs.length;
    equals(text(await w.ask([], "--method", "tools/call", "--tool-name", "read")), "with mcp:read", "the next start");
    equals([person.tabs.length, server.grants.at(-1).type], [tabs, "refresh_token"], "tabs, the last grant");
  }, { told });

  await session.close();
  await w.stop();
}

async function stepUpBrokenOff() {
  const w = await world(adapter);
  const { server, person, told } = w;

  await check("step-up: the host may end in the middle of it, which costs nobody the sign-in there is", async () => {
    const session = await new Session(w.ours(), w.env).open();
    person.manner = "leave";
    const tab = person.nextTab();
    session.call("write").catch(() => {});
    await tab;
    await session.close();
    server.refuseKnownTokens();
    const tabs = person.tabs.length;
    equals(text(await w.ask([], "--method", "tools/call", "--tool-name", "read")), "with mcp:read", "the next start");
    equals([person.tabs.length, server.grants.at(-1).type], [tabs, "refresh_token"], "tabs, the last grant");
  }, { told });

  await w.stop();
}

/** Browsers keep connections; the next sign-in must not be lost on one of the last. */
async function stepUpInOneSession() {
  const w = await world(adapter);
  const { person, told } = w;

  await check("step-up: in the session that has just signed in, in the same browser", async () => {
    const session = await new Session(w.ours(), w.env).open();
    equals(await session.call("read"), "with mcp:read", "before");
    equals(await session.call("write"), "with mcp:read mcp:write", "after");
    equals(person.pages.filter((page) => page.error), [], "pages that did not load");
    await session.close();
    equals(person.tabs.length, 2, "tabs");
  }, { told });

  await w.stop();
}

async function refresh() {
  const w = await world(adapter, { accessTokenLife: SHORT_LIFE });
  const { server, person, told } = w;
  const expiry = async () => {
    const { expires_at: at } = await stored(w.store, "tokens");
    await until(() => Date.now() > at, "the end of the token", SHORT_LIFE * 2_000);
  };

  await check("refresh: a start after the token's end needs no tab, and the refresh token is another one", async () => {
    const login = await run([adapter, "login", server.mcpUrl], w.env);
    must(login.code === 0 && /Signed in/.test(login.out), "login ahead of time", login);
    const { refresh_token: first } = await stored(w.store, "tokens");
    await expiry();
    equals(text(await w.ask([], "--method", "tools/call", "--tool-name", "read")), "with mcp:read", "the tool");
    const { refresh_token: second } = await stored(w.store, "tokens");
    must(first !== second, "the refresh token was rotated");
    equals(server.grants.map((grant) => grant.type), ["authorization_code", "refresh_token"], "grants");
    equals(person.tabs.length, 1, "tabs");
  }, { told });

  await check("refresh: a session goes on past a refusal, and past the token's end", async () => {
    const session = await new Session(w.ours(), w.env).open();
    server.refuseKnownTokens();
    equals(await session.call("read"), "with mcp:read", "after the refusal");
    await expiry();
    equals(await session.call("read"), "with mcp:read", "after the end");
    await session.close();
    const failures = server.grants.filter((grant) => grant.error);
    equals([failures, server.revoked, person.tabs.length], [[], 0, 1], "refused refreshes, ended sign-ins, tabs");
    return `${server.grants.length - 1} refreshes in all`;
  }, { told });

  await w.stop();
}

async function deviceCode() {
  const w = await world(adapter, { accessTokenLife: SHORT_LIFE });
  const { server, person, told } = w;

  await check("device code: the person enters the code elsewhere, the host gets the tools", async () => {
    const program = new ByHand(w.ours("--device-code", "--no-browser"), w.env);
    try {
      program.initialize(1);
      const prompt = /open (\S+) on any device and enter the code (\S+)/;
      await until(() => prompt.test(program.stderr), "the prompt");
      const [, address, code] = program.stderr.match(prompt);
      const end = await person.walk(`${address}?user_code=${encodeURIComponent(code)}`);
      must(end.status === 200, "the person gets through", end);
      equals((await program.answer(1, 15_000)).result?.serverInfo.name, "protected", "the server");
    } catch (error) {
      throw new Error(`${error.message}: ${program.stderr}`);
    } finally {
      await program.end();
    }
    equals(person.tabs.length, 0, "tabs");
    equals(server.registrations.length, 1, "registrations");
  }, { told });

  await check("device code: the next start needs nobody, and the token is refreshed", async () => {
    const { expires_at: at } = await stored(w.store, "tokens");
    await until(() => Date.now() > at, "the end of the token", SHORT_LIFE * 2_000);
    equals(text(await w.ask(["--device-code"], "--method", "tools/call", "--tool-name", "read")), "with mcp:read", "the tool");
    const granted = server.grants.filter((grant) => !grant.error).map((grant) => grant.type.split(":").pop());
    equals(granted, ["device_code", "refresh_token"], "grants");
  }, { told });

  await w.stop();
}

async function pastedBack() {
  const w = await world(adapter);
  const { person, told } = w;

  await check("a browser elsewhere: the address it ends at is handed over by the other program", async () => {
    const program = new ByHand(w.ours("--no-browser"), w.env);
    try {
      program.initialize(1);
      const address = /http:\S+\/auth\?\S+/;
      await until(() => address.test(program.stderr), "the address");
      const { url } = await person.walk(program.stderr.match(address)[0], "elsewhere");
      must(/^http:\/\/localhost:\d+\/oauth\/callback\?/.test(url), "a way back to this machine", url);
      const said = await run([client, "finish"], w.env, `${url}\n`);
      must(said.code === 0 && /Signed in/.test(said.out), "it is taken", said);
      equals((await program.answer(1)).result?.serverInfo.name, "protected", "the server");
    } finally {
      await program.end();
    }
    equals(person.tabs.length, 0, "tabs");
  }, { told });

  await w.stop();
}

async function denial() {
  const w = await world(adapter);
  const { server, person, told } = w;
  person.manner = "deny";
  const program = new ByHand(w.ours(), w.env);

  await check("denial: the host is told why, and the program stays", async () => {
    program.initialize(1);
    const { error } = await program.answer(1, 15_000);
    must(error && /access_denied/.test(error.message) && error.data?.code === "sign_in_denied", "the reason", { error });
    must(program.runs, "the program stays");
    await until(() => person.pages.length === 1, "the page at the end");
    must(!/signed in/i.test(person.pages[0].text), "the page does not claim success", person.pages[0]);
    equals(server.grants, [], "grants");
  }, { told });

  await check("denial: when the person has second thoughts the same program signs in", async () => {
    const addresses = () => program.stderr.match(/http:\S+\/auth\?\S+/g) ?? [];
    const before = addresses().length;
    person.manner = "leave"; // whether or not there is another tab, the address is there
    program.initialize(2);
    await until(() => addresses().length > before, "another address");
    await person.walk(addresses().at(-1));
    equals((await program.answer(2, 15_000)).result?.serverInfo.name, "protected", "the server");
  }, { told: () => `${program.stderr}\n${told()}` });

  await program.end();
  await w.stop();
}

/** What npm's does in the same situation is shown, not judged. */
async function besideNpm() {
  const w = await world(adapter);
  w.person.manner = "leave";
  const ends = async (command, env, patience) => {
    const program = new ByHand(command, env);
    const tab = w.person.nextTab();
    program.initialize(1);
    await tab;
    const began = Date.now();
    program.child.stdin.end();
    const ended = await until(() => !program.runs, "the end", patience).then(() => true, () => false);
    const took = Date.now() - began;
    await program.end();
    return ended ? took : undefined;
  };

  await check("end of input while a tab is open: the program ends before a host signals", async () => {
    const took = await ends(w.ours(), w.env, 10_000);
    must(took !== undefined && took < 1_800, "it ends", took); // the SDKs wait for 2 s
    const npm = await ends(w.npms(), { ...w.env, MCP_REMOTE_CONFIG_DIR: `${w.store}-npm` }, NPM_PATIENCE);
    console.log(`# end of input during sign-in to exit: mcp-remote ${took} ms, npm ${npm === undefined ? `none in ${NPM_PATIENCE} ms` : `${npm} ms`}`);
  }, { told: w.told });
  await w.stop();

  const other = await world(adapter);
  await check("npm's first start, to compare", async () => {
    const session = await new Session(other.npms(), other.env).open();
    await session.client.listTools();
    await session.close();
    showRequests("npm's mcp-remote", other.server);
  }, { told: other.told, limitMs: 60_000 });
  await other.stop();
}

await codeWithBrowser();
await stepUpInOneSession();
await stepUp();
await stepUpBrokenOff();
await refresh();
await deviceCode();
await pastedBack();
await denial();
await besideNpm();
process.exit(failed > 0 ? 1 : 0);
