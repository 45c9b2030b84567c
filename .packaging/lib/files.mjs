// Archives as bytes: the same files give the same bytes. An entry is `{ path, data, mode }`, or `{ path, link }`.

import { deflateRawSync, gzipSync } from "node:zlib";
import { crc32 } from "./crc32.mjs";

/** 1980-01-01, the first day that a zip archive can name. */
const EPOCH = 315_532_800;
const DOS_DATE = 0x21;

export const RUNS = 0o755;
export const READS = 0o644;

/** A file of text. */
export const text = (path, content, mode = READS) => ({ path, data: Buffer.from(content), mode });

/** POSIX.1-1988 (ustar), gzipped. */
export function tarGz(entries) {
  const blocks = [];
  for (const { path, data = Buffer.alloc(0), mode = READS, link } of entries) {
    // A long path is cut in two at a slash.
    const cut = path.length > 100 ? path.lastIndexOf("/", 155) : -1;
    if (path.length - cut - 1 > 100) throw new Error(`too long a name for the archive: ${path}`);
    const header = Buffer.alloc(512);
    const put = (offset, value) => header.write(value, offset, "latin1");
    const octal = (offset, length, value) => put(offset, `${value.toString(8).padStart(length - 1, "0")}\0`);
    put(0, path.slice(cut + 1));
    put(345, path.slice(0, Math.max(cut, 0)));
    octal(100, 8, mode);
    octal(108, 8, 0);
    octal(116, 8, 0);
    octal(124, 12, data.length);
    octal(136, 12, EPOCH);
    put(148, " ".repeat(8));
    put(156, link ? "2" : "0");
    put(157, link ?? "");
    put(257, "ustar\x0000");
    put(265, "root");
    put(297, "root");
    octal(148, 7, header.reduce((sum, byte) => sum + byte, 0));
    blocks.push(header, data, Buffer.alloc((512 - (data.length % 512)) % 512));
  }
  blocks.push(Buffer.alloc(1024));
  return gzipSync(Buffer.concat(blocks), { level: 9 });
}

/** APPNOTE.TXT 6.3, deflated, with Unix modes. */
export function zip(entries) {
  const parts = [];
  const directory = [];
  let offset = 0;
  for (const { path, data, mode = READS } of entries) {
    const name = Buffer.from(path);
    const packed = deflateRawSync(data, { level: 9 });
    const common = Buffer.alloc(26);
    common.writeUInt16LE(20, 0); // version 2.0 unpacks it
    common.writeUInt16LE(0x800, 2); // names are UTF-8
    common.writeUInt16LE(8, 4); // deflate
    common.writeUInt16LE(DOS_DATE, 8);
    common.writeUInt32LE(crc32(data), 10);
    common.writeUInt32LE(packed.length, 14);
    common.writeUInt32LE(data.length, 18);
    common.writeUInt16LE(name.length, 22);
    const central = Buffer.alloc(14);
    central.writeUInt32LE((0o100000 | mode) * 0x10000, 6);
    central.writeUInt32LE(offset, 10);
    directory.push(Buffer.from([0x50, 0x4b, 1, 2, 20, 3]), common, central, name);
    const local = [Buffer.from([0x50, 0x4b, 3, 4]), common, name, packed];
    parts.push(...local);
    offset += local.reduce((sum, part) => sum + part.length, 0);
  }
  const index = Buffer.concat(directory);
  const end = Buffer.alloc(22);
  end.writeUInt32LE(0x06054b50, 0);
  end.writeUInt16LE(entries.length, 8);
  end.writeUInt16LE(entries.length, 10);
  end.writeUInt32LE(index.length, 12);
  end.writeUInt32LE(offset, 16);
  return Buffer.concat([...parts, index, end]);
}
