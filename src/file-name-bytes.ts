/*
 * File names that are not UTF-8, as strings: PostgreSQL knows names as bytes, JavaScript as text. A byte that belongs
 * to no character becomes a lone surrogate, U+DC80 to U+DCFF, and back (the way of Python's "surrogateescape"), so that
 * names stay keys that can be compared, joined and given back to the file system as they were.
 */
import { isUtf8 } from 'node:buffer';

const ESCAPE = 0xdc00;
const ESCAPED_BYTE = /[\uDC80-\uDCFF]/u;

/** The name of a file from its bytes. */
export function decodeFileName(bytes: Buffer): string {
  if (isUtf8(bytes)) return bytes.toString('utf8');
  let name = '';
  for (let at = 0; at < bytes.length;) {
    const length = characterLength(bytes, at);
    name +=
      length === 0 ? String.fromCharCode(ESCAPE + (bytes[at] ?? 0)) : bytes.toString('utf8', at, at + length);
    at += Math.max(1, length);
  }
  return name;
}

/** What Node's file functions take to find the file: the name itself where it is text, else its bytes. */
export function encodeFileName(name: string): string | Buffer {
  // with the flag "u" a pair of surrogates is one character and no match
  if (!ESCAPED_BYTE.test(name)) return name;
  const parts = Array.from(name, (character) =>
    ESCAPED_BYTE.test(character)
      ? Buffer.of((character.codePointAt(0) ?? 0) - ESCAPE)
      : Buffer.from(character),
  );
  return Buffer.concat(parts);
}

/** Bytes of the UTF-8 character that begins there, 0 where none does. */
function characterLength(bytes: Buffer, at: number): number {
  for (let length = 1; length <= 4 && at + length <= bytes.length; length += 1) {
    if (isUtf8(bytes.subarray(at, at + length))) return length;
  }
  return 0;
}
