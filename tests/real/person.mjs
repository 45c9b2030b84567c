// A person with a browser: each program that opens a tab through $BROWSER is
// answered by walking through the forms of the authorization server.

import { EventEmitter, once } from "node:events";
import { chmod, writeFile } from "node:fs/promises";
import { Agent, request } from "node:http";
import { createServer } from "node:net";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { PERSON } from "./protected-server.mjs";

/** Pages that a sign-in takes at most: it must come to an end. */
const MOST_PAGES = 20;
/** The values of the buttons that the person presses, if a page has several. */
const AGREES = /^(accept|allow|approve|authorize|true)$/i;
/** Connections that are kept, as browsers keep them. */
const CONNECTIONS = new Agent({ keepAlive: true });

/**
 * `manner` is what the person does with a tab: "consent", "deny", "leave" it open, or consent
 * "elsewhere", where the way back leads to nobody; `takes` is the time that passes first, in ms.
 * `tabs` are the addresses opened so far, `pages` where the walks ended.
 */
export async function startPerson(folder) {
  const person = { tabs: [], pages: [], manner: "consent", takes: 0, cookies: new Map(), desk: new EventEmitter() };
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
      sleep(person.takes)
        .then(() => person.walk(address, person.manner))
        .catch((error) => person.pages.push({ address, error: error.message }));
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
  /** The tabs and the pages where the walks ended, one line each. */
  person.told = () => [
    ...person.tabs.map((tab) => `tab ${tab}`),
    ...person.pages.map((page) => `page ${page.status} ${page.url} ${page.error ?? ""}`),
  ];
  person.stop = () => server.close();
  return person;
}

async function walk(cookies, address, manner) {
  let url = new URL(address);
  const { origin } = url;
  let form;
  for (let page = 0; page < MOST_PAGES; page += 1) {
    const { status, headers, text } = await visit(cookies, url, form);
    form = undefined;
    if (headers.location) {
      url = new URL(headers.location, url);
      if (manner === "elsewhere" && url.origin !== origin) return { url: url.href };
      continue;
    }
    const abort = manner === "deny" && text.match(/href="([^"]*\/abort)"/);
    if (abort) {
      url = new URL(unescaped(abort[1]), url);
      continue;
    }
    const found = text.match(/<form\b([^>]*)>([\s\S]*?)<\/form>/);
    if (!found) return { url: url.href, status, text };
    form = { origin: url.origin, fields: new URLSearchParams() };
    const action = attributeOf(found[1], "action");
    if (action) url = new URL(action, url);
    // The fields may stand outside of the form and name it; there is one form a page.
    for (const [field] of text.matchAll(/<(?:input|button)\b[^>]*>/g)) {
      const name = attributeOf(field, "name");
      const value = attributeOf(field, "value");
      const button = field.startsWith("<button") || attributeOf(field, "type") === "submit";
      const box = attributeOf(field, "type") === "checkbox";
      if (!name || (button && !AGREES.test(value)) || (box && !/\bchecked\b/.test(field))) continue;
      form.fields.append(name, value ?? "ada");
    }
  }
  throw new Error(`no end of the pages at ${url}`);
}

/** Fetches a page, or posts a form, with the headers of a browser navigation. */
async function visit(cookies, url, form) {
  const headers = {
    "user-agent": PERSON,
    accept: "text/html",
    "sec-fetch-dest": "document",
    "sec-fetch-mode": "navigate",
    cookie: cookiesFor(cookies, url),
    ...(form && { origin: form.origin, "content-type": "application/x-www-form-urlencoded" }),
  };
  const sent = request(url, { method: form ? "POST" : "GET", headers, agent: CONNECTIONS });
  sent.end(form?.fields.toString());
  const [response] = await once(sent, "response");
  keepCookies(cookies, url, response.headers["set-cookie"] ?? []);
  let text = "";
  for await (const chunk of response.setEncoding("utf8")) text += chunk;
  return { status: response.statusCode, headers: response.headers, text };
}

const attributeOf = (tag, name) => {
  const found = tag.match(new RegExp(`\\b${name}=(?:"([^"]*)"|'([^']*)')`));
  return found && unescaped(found[1] ?? found[2]);
};

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
