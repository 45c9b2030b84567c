// npm's mcp-remote 0.15.1 and the adapter in one folder, with the same arguments:
// one after the other, and both at once.
//
//   node beside-npm.mjs <adapter>
//
// Prints one line per check (`ok ...` / `FAIL ...`) and exits 1 if any failed.

import { setTimeout as sleep } from "node:timers/promises";
import { check, equals, failed, must, until } from "./checks.mjs";
import { Session, run, stored } from "./programs.mjs";
import { world } from "./world.mjs";

const [adapter] = process.argv.slice(2);
if (!adapter) {
  console.error("usage: node beside-npm.mjs <adapter>");
  process.exit(2);
}

/** In seconds. npm replaces a token a minute before its end: this one in a second. */
const SHORT_LIFE = 61;
const LONG_LIFE = 600;
/** How long a program gets to do what it must not, in ms. */
const TEMPTATION = 500;

/** The adapter gets a token that npm will want to replace; whatever comes next lives long. */
async function shortToken({ server, store }, session) {
  server.accessTokenLife = SHORT_LIFE;
  server.refuseKnownTokens();
  equals(await session.call("read"), "with mcp:read", "the adapter, refreshing");
  server.accessTokenLife = LONG_LIFE;
  await until(async () => (await stored(store, "tokens")).expires_at - Date.now() < 60_000, "a minute before the end");
}

/** Waits for the streams that programs open at their start and keep: the adapter one, npm's two. */
const streams = (server, mark, count) => {
  const isStream = ({ method, path, admitted }) => method === "GET" && path === "/mcp" && admitted;
  return until(() => server.requests.slice(mark).filter(isStream).length === count, `${count} streams`);
};

/** The next request for a token comes in and waits until it is let go. */
function holdToken(server) {
  const held = {};
  const released = new Promise((resolve) => (held.release = resolve));
  held.reached = new Promise((resolve) => {
    server.hold = async (entry) => {
      if (entry.path !== "/token") return;
      resolve();
      await released;
    };
  });
  return held;
}

/**
 * Checks that share a world. After each, nobody was signed out, and the grants since its begin are
 * those that it expects.
 */
async function group(body) {
  const w = await world(adapter, { accessTokenLife: LONG_LIFE });
  const { server, person } = w;
  const open = [];
  const begin = (command) => {
    const session = new Session(command, w.env);
    open.push(session);
    return session;
  };
  const told = () => [...open.map((session, i) => `stderr ${i}: ${session.stderr}`), w.told()].join("\n");
  const checkGrants = (name, { tabs, grants }, steps) =>
    check(name, async () => {
      const [before, tabsBefore] = [server.grants.length, person.tabs.length];
      await steps();
      equals(server.grants.slice(before).map((grant) => grant.error ?? grant.type), grants, "grants");
      equals([person.tabs.length - tabsBefore, server.revoked], [tabs, 0], "tabs, ended sign-ins");
    }, { told });
  await body(w, { ours: () => begin(w.ours()), npms: () => begin(w.npms()), check: checkGrants });
  await Promise.all(open.map((session) => session.close().catch(() => {})));
  await w.stop();
}

/** Starts it, calls the tool, ends it; the answer. */
async function once(session) {
  await session.open();
  const answer = await session.call("read");
  await session.close();
  return answer;
}

const CODE = "authorization_code";
const REFRESH = "refresh_token";

await group(async ({ server }, { ours, npms, check }) => {
  await check("npm signs in: the adapter needs no tab", { tabs: 1, grants: [CODE] }, async () => {
    equals(await once(npms()), "with mcp:read", "npm");
    equals(await once(ours()), "with mcp:read", "the adapter");
  });

  await check("the adapter refreshes: npm goes on", { tabs: 0, grants: [REFRESH] }, async () => {
    server.refuseKnownTokens();
    equals(await once(ours()), "with mcp:read", "the adapter");
    equals(await once(npms()), "with mcp:read", "npm");
  });

  const name = "npm refreshes after a refusal: the adapter goes on, its next refresh too";
  await check(name, { tabs: 0, grants: [REFRESH, REFRESH] }, async () => {
    server.refuseKnownTokens();
    equals(await once(npms()), "with mcp:read", "npm");
    equals(await once(ours()), "with mcp:read", "the adapter");
    server.refuseKnownTokens();
    equals(await once(ours()), "with mcp:read", "the adapter, refreshing");
  });
});

await group(async (w, { ours, npms, check }) => {
  const { server } = w;

  await check("the adapter signs in: npm needs no tab", { tabs: 1, grants: [CODE] }, async () => {
    equals(await once(ours()), "with mcp:read", "the adapter");
    equals(await once(npms()), "with mcp:read", "npm");
  });

  const name = "npm refreshes ahead of time: the adapter goes on, its next refresh too";
  await check(name, { tabs: 0, grants: [REFRESH, REFRESH, REFRESH] }, async () => {
    const first = await ours().open();
    await shortToken(w, first);
    await first.close();
    const npm = npms();
    equals(await once(npm), "with mcp:read", "npm");
    must(/Refreshed the access token before it expired/.test(npm.stderr), "npm has refreshed", npm.stderr);
    equals(await once(ours()), "with mcp:read", "the adapter");
    server.refuseKnownTokens();
    equals(await once(ours()), "with mcp:read", "the adapter, refreshing");
  });

  const [adapters, npm] = [ours(), npms()];
  await check("both run: npm refreshes, the adapter waits for it", { tabs: 0, grants: [REFRESH, REFRESH] }, async () => {
    let mark = server.requests.length;
    await Promise.all([adapters.open(), npm.open()]);
    await streams(server, mark, 3);
    await shortToken(w, adapters);
    const held = holdToken(server);
    const calls = [npm.call("read")];
    await held.reached;
    server.refuseKnownTokens();
    mark = server.requests.length;
    calls.push(adapters.call("read"));
    await until(() => server.requests.slice(mark).some(({ status }) => status === 401), "the adapter's token refused");
    await sleep(TEMPTATION);
    held.release();
    equals(await Promise.all(calls), ["with mcp:read", "with mcp:read"], "answers");
  });

  await check("both run: the adapter refreshes, npm waits for it", { tabs: 0, grants: [REFRESH, REFRESH] }, async () => {
    await shortToken(w, adapters);
    const held = holdToken(server);
    server.refuseKnownTokens();
    const calls = [adapters.call("read")];
    await held.reached;
    calls.push(npm.call("read"));
    await sleep(TEMPTATION);
    held.release();
    equals(await Promise.all(calls), ["with mcp:read", "with mcp:read"], "answers");
  });

  await check("logout after npm's refresh: the refresh token is dead at the server", { tabs: 0, grants: [REFRESH, REFRESH, "invalid_grant"] }, async () => {
    await shortToken(w, adapters);
    equals(await npm.call("read"), "with mcp:read", "npm, refreshing");
    const { refresh_token: refresh } = await stored(w.store, "tokens");
    const { client_id: client } = await stored(w.store, "client_info");
    const said = await run([adapter, "logout", server.mcpUrl], w.env);
    must(/revoked/.test(said.out) && !/could not/.test(said.out), "it says that the tokens are revoked", said);
    equals(await server.spend(refresh, client), "invalid_grant", "the refresh token");
    server.revoked = 0; // that was asked for
  });
});

await group(async ({ server, person }, { ours, npms, check }) => {
  const name = "npm's sign-in is open: the adapter opens no tab and goes on with its result";
  await check(name, { tabs: 1, grants: [CODE] }, async () => {
    person.manner = "leave";
    const tab = person.nextTab();
    const npm = npms();
    const opening = [npm.open()];
    const url = await tab;
    const adapters = ours();
    opening.push(adapters.open());
    await adapters.said(/another mcp-remote process is signing in on callback port/);
    await sleep(TEMPTATION);
    await person.walk(url);
    await Promise.all(opening);
    equals([await npm.call("read"), await adapters.call("read")], ["with mcp:read", "with mcp:read"], "answers");
    equals(server.registrations.length, 1, "registrations");
  });
});

await group(async ({ server, person }, { ours, npms, check }) => {
  const name = "the adapter's sign-in is open: npm opens no tab and goes on with its result";
  await check(name, { tabs: 1, grants: [CODE] }, async () => {
    person.manner = "leave";
    const tab = person.nextTab();
    const adapters = ours();
    const opening = [adapters.open()];
    const url = await tab;
    const npm = npms();
    opening.push(npm.open());
    await npm.said(/Another instance is running the sign-in/);
    await sleep(TEMPTATION);
    await person.walk(url);
    await Promise.all(opening);
    equals([await npm.call("read"), await adapters.call("read")], ["with mcp:read", "with mcp:read"], "answers");
    equals(server.registrations.length, 1, "registrations");
  });
});

await group(async ({ server, person }, { ours, npms, check }) => {
  const name = "two of each start at once: one tab, one registration, one grant";
  await check(name, { tabs: 1, grants: [CODE] }, async () => {
    person.manner = "leave";
    const tab = person.nextTab();
    const sessions = [ours(), npms(), ours(), npms()];
    const opening = sessions.map((session) => session.open());
    const url = await tab;
    await sleep(TEMPTATION);
    await person.walk(url);
    await Promise.all(opening);
    const answers = await Promise.all(sessions.map((session) => session.call("read")));
    equals(answers, sessions.map(() => "with mcp:read"), "answers");
    equals(server.registrations.length, 1, "registrations");
  });
});

await group(async ({ person }, { ours, npms, check }) => {
  await check("npm's sign-in is open and npm ends: the adapter takes over", { tabs: 2, grants: [CODE] }, async () => {
    person.manner = "leave";
    const tab = person.nextTab();
    const npm = npms();
    npm.open().catch(() => {});
    await tab;
    const adapters = ours();
    const opening = adapters.open();
    await adapters.said(/another mcp-remote process is signing in on callback port/);
    const second = person.nextTab();
    process.kill(npm.transport.pid, "SIGTERM");
    await person.walk(await second);
    await opening;
    equals(await adapters.call("read"), "with mcp:read", "the answer");
  });
});

await group(async ({ server, person, store }, { ours, npms, check }) => {
  const denied = "the adapter's step-up is denied: npm goes on, its refresh too";
  await check(denied, { tabs: 2, grants: [CODE, REFRESH] }, async () => {
    const adapters = await ours().open();
    person.manner = "deny";
    must(await adapters.call("write").then(() => false, () => true), "the step-up fails");
    person.manner = "consent";
    await adapters.close();
    server.refuseKnownTokens();
    equals(await once(npms()), "with mcp:read", "npm");
  });

  const granted = "the adapter steps up: npm goes on with the wider token, its refresh too";
  await check(granted, { tabs: 1, grants: [CODE, REFRESH] }, async () => {
    const adapters = await ours().open();
    equals(await adapters.call("write"), "with mcp:read mcp:write", "the adapter");
    await adapters.close();
    const mark = server.requests.length;
    const npm = await npms().open();
    equals(await npm.call("write"), "with mcp:read mcp:write", "npm");
    await streams(server, mark, 2);
    server.refuseKnownTokens();
    equals(await npm.call("write"), "with mcp:read mcp:write", "npm, refreshing");
    await npm.close();
  });

  const other = "npm signs in anew as another client: the adapter refreshes as that one";
  await check(other, { tabs: 1, grants: ["invalid_client", CODE, REFRESH] }, async () => {
    const { client_id: client } = await stored(store, "client_info");
    await server.forgetClient(client);
    server.refuseKnownTokens();
    // npm opens its tab before the port that the browser comes back to.
    person.manner = "leave";
    const tab = person.nextTab();
    const npm = npms();
    const answer = once(npm);
    const url = await tab;
    await npm.said(/Waiting for authorization/);
    await person.walk(url);
    equals(await answer, "with mcp:read", "npm");
    must((await stored(store, "client_info")).client_id !== client, "another client");
    server.refuseKnownTokens();
    equals(await once(ours()), "with mcp:read", "the adapter");
  });
});

process.exit(failed > 0 ? 1 : 0);
