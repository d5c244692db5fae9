/*
 * Opens the WebAssembly that knows lz4 blocks; assembly/lz4-block.ts is the code inside, and says what its functions do.
 * Called by lz4-memory.ts, which decodes, and compression/lz4.ts, which encodes. Our own code: of what npm has, nothing
 * decodes linked blocks, which pg_basebackup writes, and nothing that comes ready for use encodes as fast as liblz4 (lz4-napi
 * 470 MB/s, liblz4 and this 750 to 810, to the same size).
 */
import { readFileSync } from 'node:fs';

export interface Lz4Functions {
  decodeBlock(from: number, length: number, to: number, room: number, lowest: number): number;
  encodeBlock(from: number, length: number, to: number, table: number): number;
  beginHash(): void;
  addToHash(from: number, length: number): number;
  endHash(from: number, length: number): number;
  hashOf(from: number, length: number): number;
}

interface Lz4Exports extends Lz4Functions {
  readonly memory: { readonly buffer: ArrayBuffer; grow(wasmPages: number): number };
}

// Node.js has this global, @types/node 20 does not declare it.
declare const WebAssembly: {
  readonly Module: new (code: Uint8Array) => object;
  readonly Instance: new (module: object) => { readonly exports: Lz4Exports };
};

const WASM_PAGE_BYTES = 65_536;

/** The code writes and reads up to so many bytes past the end of a buffer. */
export const LZ4_SLACK_BYTES = 16;
/** How far back a match may reach. */
export const LZ4_HISTORY_BYTES = 65_536;

let compiled: object | undefined;

/** @returns the functions, and the memory that they work in, which is the caller's to divide */
export function openLz4(memoryBytes: number): { readonly wasm: Lz4Functions; readonly memory: Buffer } {
  compiled ??= new WebAssembly.Module(readFileSync(new URL('lz4-block.wasm', import.meta.url)));
  const wasm = new WebAssembly.Instance(compiled).exports;
  wasm.memory.grow(Math.ceil(memoryBytes / WASM_PAGE_BYTES));
  return { wasm, memory: Buffer.from(wasm.memory.buffer) };
}
