/*
 * Opens the WebAssembly that knows lz4 blocks; assembly/lz4-block.ts is the code inside, and says what its functions do.
 * Called by lz4-memory.ts, which decodes, and compression/lz4.ts, which encodes. Our own code: of what npm has, nothing
 * decodes linked blocks, which pg_basebackup writes, and nothing that comes ready for use encodes as fast as liblz4 (lz4-napi
 * 470 MB/s, liblz4 810, this 740 to 850, to the same size). Nor has anything there that comes ready for use and is kept up the high compression mode at a level.
 */
import { openWasm } from '../wasm-memory.js';

export interface Lz4Functions {
  decodeBlock(from: number, length: number, to: number, room: number, lowest: number): number;
  encodeBlock(from: number, length: number, to: number, table: number): number;
  encodeBlockHigh(from: number, length: number, to: number, most: number, calm: number): number;
  beginHash(): void;
  addToHash(from: number, length: number): number;
  endHash(from: number, length: number): number;
  hashOf(from: number, length: number): number;
}

/** The code writes and reads up to so many bytes past the end of a buffer. */
export const LZ4_SLACK_BYTES = 16;
/** How far back a match may reach. */
export const LZ4_HISTORY_BYTES = 65_536;

/** The tables of encodeBlockHigh, from address 0 on; assembly/lz4-encode-high.ts divides them. */
export const LZ4_HIGH_TABLE_BYTES = 6 * 65_536 + 128;

/** @returns the functions, and the memory that they work in. @throws ConvoyError `memory_refused` */
export function openLz4(memoryBytes: number): { readonly wasm: Lz4Functions; readonly memory: Buffer } {
  const { functions, memory } = openWasm(
    new URL(import.meta.resolve('#program/lz4-block.wasm')),
    memoryBytes,
  );
  return { wasm: functions as Lz4Functions, memory: Buffer.from(memory) };
}
