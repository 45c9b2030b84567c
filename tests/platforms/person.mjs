// The person before the browser that wine starts: waits until the stand-in has noted a URL, and follows its redirects.
//
//   node person.mjs NOTES

import { existsSync, readFileSync } from "node:fs";
import { setTimeout } from "node:timers/promises";

const [notes] = process.argv.slice(2);
const deadline = Date.now() + 30_000;
// The stand-in writes one line: how many arguments it has, a tab, the first one.
let line = "";
while (!line.includes("\n")) {
  if (Date.now() > deadline) throw new Error("no browser was started");
  await setTimeout(20);
  if (existsSync(notes)) line = readFileSync(notes, "utf8");
}
const [count, url] = line.trim().split("\t");
if (count !== "1") throw new Error(`the browser got ${count} arguments: ${line}`);
const page = await fetch(url);
const text = await page.text();
if (!page.ok || !/signed in/i.test(text)) throw new Error(`the page at the end says ${page.status} ${text}`);
console.log("one argument, and the page says that the user is signed in");
