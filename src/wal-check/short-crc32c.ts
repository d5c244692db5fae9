/*
 * CRC-32C of a few bytes where a call into native code costs more than the sum: WAL records have a hundred on average.
 * Called by record-walk.ts for every record. Eight table look-ups for eight bytes ("slicing by 8", as PostgreSQL's
 * src/port/pg_crc32c_sb8.c); long runs go to native code all the same.
 */
import { crc32c } from '../crc32.js';

/** Castagnoli, bits reversed. */
const POLYNOMIAL = 0x82f63b78;
const TABLES = 8;
const NATIVE_BYTES = 512;

/** Table k holds what a byte does to the CRC when k bytes follow it: 256 entries each. */
const tables = buildTables();

function buildTables(): Int32Array {
  const built = new Int32Array(TABLES * 256);
  for (let byte = 0; byte < 256; byte += 1) {
    let crc = byte;
    for (let bit = 0; bit < 8; bit += 1) crc = crc & 1 ? (crc >>> 1) ^ POLYNOMIAL : crc >>> 1;
    built[byte] = crc;
  }
  for (let index = 256; index < built.length; index += 1) {
    const before = built[index - 256] ?? 0;
    built[index] = (before >>> 8) ^ (built[before & 0xff] ?? 0);
  }
  return built;
}

/** Bytes and the same memory as 32-bit words; both begin at a multiple of 8. */
export interface AlignedBytes {
  readonly bytes: Buffer;
  readonly words: Int32Array;
}

/** @param memory begins at a multiple of 8 and has a length that is one */
export function alignedBytes(memory: Buffer): AlignedBytes {
  return { bytes: memory, words: new Int32Array(memory.buffer, memory.byteOffset, memory.length / 4) };
}

/**
 * @param start a multiple of 8
 * @param crc of what comes before; 0 for nothing
 */
export function shortCrc32c({ bytes, words }: AlignedBytes, start: number, end: number, crc: number): number {
  if (end - start >= NATIVE_BYTES) return crc32c(bytes.subarray(start, end), crc);
  const table = tables;
  let state = ~crc;
  let at = start;
  for (; at + 8 <= end; at += 8) {
    const low = state ^ (words[at >> 2] ?? 0);
    const high = words[(at >> 2) + 1] ?? 0;
    state =
      (table[0x700 | (low & 0xff)] ?? 0) ^
      (table[0x600 | ((low >>> 8) & 0xff)] ?? 0) ^
      (table[0x500 | ((low >>> 16) & 0xff)] ?? 0) ^
      (table[0x400 | (low >>> 24)] ?? 0) ^
      (table[0x300 | (high & 0xff)] ?? 0) ^
      (table[0x200 | ((high >>> 8) & 0xff)] ?? 0) ^
      (table[0x100 | ((high >>> 16) & 0xff)] ?? 0) ^
      (table[high >>> 24] ?? 0);
  }
  for (; at < end; at += 1) state = (state >>> 8) ^ (table[(state ^ (bytes[at] ?? 0)) & 0xff] ?? 0);
  return ~state >>> 0;
}
