// What Windows shows in the properties of the program, as a resource file, which the linker of MSVC takes as it is.
// https://learn.microsoft.com/en-us/windows/win32/menurc/vs-versioninfo

import { writeFileSync } from "node:fs";
import { crate } from "./pack.mjs";

const RT_VERSION = 16;
const US_ENGLISH = 0x0409;
const UNICODE = 1200;

export function main(file) {
  if (!file) {
    console.error("usage: .packaging/version-resource FILE.res");
    process.exitCode = 2;
    return;
  }
  writeFileSync(file, versionResource(crate()));
}

export function versionResource({ version, description, license, repository }) {
  const strings = {
    CompanyName: repository.split("/").at(-2),
    FileDescription: description,
    FileVersion: version,
    InternalName: "mcp-remote",
    LegalCopyright: license,
    OriginalFilename: "mcp-remote.exe",
    ProductName: "mcp-remote",
    ProductVersion: version,
  };
  const codes = [US_ENGLISH, UNICODE];
  const table = codes.map((code) => code.toString(16).padStart(4, "0")).join("");
  const texts = Object.entries(strings).map(([name, text]) => node(name, wide(text), [], text.length + 1, true));
  const body = node("VS_VERSION_INFO", fixed(version), [
    node("StringFileInfo", empty, [node(table, empty, texts, 0, true)], 0, true),
    node("VarFileInfo", empty, [node("Translation", Buffer.from(new Uint16Array(codes).buffer), [], 4)], 0, true),
  ]);
  return Buffer.concat([header(0, 0, 0), header(body.length, RT_VERSION, 1), body]);
}

const empty = Buffer.alloc(0);
const wide = (text) => Buffer.from(`${text}\0`, "utf16le");
const padded = (bytes) => Buffer.concat([bytes, Buffer.alloc((4 - (bytes.length % 4)) % 4)]);

/** A node of the tree: lengths, key, value, children. `length` is that of the value, in characters for a text. */
function node(key, value, children, length = value.length, isText = false) {
  const start = Buffer.alloc(6);
  const content = [padded(Buffer.concat([start, wide(key)])), value];
  const parts = Buffer.concat(children.reduce((all, child) => [padded(Buffer.concat(all)), child], content));
  parts.writeUInt16LE(parts.length, 0);
  parts.writeUInt16LE(length, 2);
  parts.writeUInt16LE(isText ? 1 : 0, 4);
  return parts;
}

/** VS_FIXEDFILEINFO: the same version as four numbers, for a program of Windows. */
function fixed(version) {
  const [major, minor, patch] = version.split(/[.+-]/).map(Number);
  const numbers = [(major << 16) | minor, patch << 16];
  const fields = [0xfeef04bd, 0x10000, ...numbers, ...numbers, 0x3f, 0, 0x40004, 1, 0, 0, 0];
  return Buffer.from(new Uint32Array(fields).buffer);
}

/** The header of a resource of this type, with its number; the first one in a file is empty. */
function header(size, type, id) {
  const bytes = Buffer.alloc(32);
  bytes.writeUInt32LE(size, 0);
  bytes.writeUInt32LE(32, 4);
  bytes.writeUInt16LE(0xffff, 8);
  bytes.writeUInt16LE(type, 10);
  bytes.writeUInt16LE(0xffff, 12);
  bytes.writeUInt16LE(id, 14);
  bytes.writeUInt16LE(type ? 0x30 : 0, 20);
  bytes.writeUInt16LE(type ? US_ENGLISH : 0, 22);
  return bytes;
}
