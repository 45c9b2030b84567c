// A person with a browser: each program that opens a tab through $BROWSER is
// answered by walking through the forms of the authorization server.

import { EventEmitter, once } from "node:events";
import { chmod, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import path from "node:path";
import { PERSON } from "./protected-server.mjs";

/** Pages that a sign-in takes at most: it must come to an end. */
const MOST_PAGES = 20;

/**
 * `manner` is what the person does with a tab: "consent", "deny", "leave" it open, or consent
 * "elsewhere", where the way back leads to nobody.
 * `tabs` are the addresses opened so far, `pages` where the walks ended.
 */
export async function startPerson(folder) {
  const person = { tabs: [], pages: [], manner: "consent", cookies: new Map(), desk: new EventEmitter() };
  const server = createServer((socket) => {
    let address = "";
    socket.setEncoding("utf8").on("data", (chunk) => (address += chunk));
    socket.on("error", () => {});
    socket.on("end", () => {
      socket.end();
      address = address.trim();
      person.tabs.push(address);
      person.desk.emit("tab", address);
      if (person.manner === "leave") return;
      person.walk(address, person.manner).catch((error) => person.pages.push({ address, error: error.message }));
    });
  });
  await once(server.listen(0, "127.0.0.1"), "listening");
  const { port } = server.address();
  // The programs only get to see this: a browser that takes an address and is done.
  person.browser = path.join(folder, `browser-${port}`);
  await writeFile(person.browser, `#!/usr/bin/env bash\nprintf '%s' "$1" >/dev/tcp/127.0.0.1/${port}\n`);
  await chmod(person.browser, 0o755);

  /** The next tab from now on. */
  person.nextTab = async () => (await once(person.desk, "tab"))[0];

  person.walk = async (address, manner = "consent") => {
    const end = await walk(person.cookies, address, manner);
    person.pages.push(end);
    return end;
  };
  person.stop = () => server.close();
  return person;
}

async function walk(cookies, address, manner) {
  let url = new URL(address);
  const { origin } = url;
  let form;
  for (let page = 0; page < MOST_PAGES; page += 1) {
    const response = await fetch(url, {
      method: form ? "POST" : "GET",
      body: form,
      redirect: "manual",
      headers: { "user-agent": PERSON, accept: "text/html", cookie: cookiesFor(cookies, url) },
    });
    keepCookies(cookies, url, response.headers.getSetCookie());
    form = undefined;
    const next = response.headers.get("location");
    if (next) {
      url = new URL(next, url);
      if (manner === "elsewhere" && url.origin !== origin) return { url: url.href };
      continue;
    }
    const text = await response.text();
    const abort = manner === "deny" && text.match(/href="([^"]*\/abort)"/);
    if (abort) {
      url = new URL(unescaped(abort[1]), url);
      continue;
    }
    const found = text.match(/<form[^>]*\baction="([^"]*)"[^>]*>([\s\S]*?)<\/form>/);
    if (!found) return { url: url.href, status: response.status, text };
    url = new URL(unescaped(found[1]), url);
    form = new URLSearchParams();
    // The fields may stand outside of the form and name it; there is one form a page.
    for (const [input] of text.matchAll(/<input\b[^>]*>/g)) {
      const attribute = (name) => input.match(new RegExp(`\\b${name}="([^"]*)"`))?.[1];
      if (attribute("name")) form.set(attribute("name"), unescaped(attribute("value") ?? "ada"));
    }
  }
  throw new Error(`no end of the pages at ${url}`);
}

const unescaped = (text) => text.replaceAll("&amp;", "&").replaceAll("&quot;", '"').replaceAll("&#39;", "'");

function keepCookies(cookies, url, lines) {
  for (const line of lines) {
    const [pair, ...attributes] = line.split(/;\s*/);
    const attribute = (name) => attributes.find((a) => a.toLowerCase().startsWith(`${name}=`))?.split("=")[1];
    const [name, value] = pair.split(/=(.*)/s);
    const cookie = { name, value, host: url.hostname, path: attribute("path") ?? "/" };
    const key = `${cookie.host} ${cookie.path} ${name}`;
    if (new Date(attribute("expires") ?? "9999") < new Date()) cookies.delete(key);
    else cookies.set(key, cookie);
  }
}

const cookiesFor = (cookies, url) =>
  [...cookies.values()]
    .filter((cookie) => cookie.host === url.hostname && url.pathname.startsWith(cookie.path))
    .map((cookie) => `${cookie.name}=${cookie.value}`)
    .join("; ");
