/*
 * Opens a WebAssembly module of ours with memory of its own, which is the caller's to divide: nothing in there allocates, and
 * the memory never grows again, which would detach the views of it. Used by page-checksum.ts and lz4-module.ts.
 */
import { readFileSync } from 'node:fs';
import { ConvoyError } from './errors.js';

interface WasmExports {
  readonly memory: {
    readonly buffer: ArrayBuffer;
    /** By a number of WebAssembly's own pages. Throws a RangeError where there is no such memory. */
    grow(wasmPages: number): number;
  };
}

// Node.js has this global, @types/node 20 does not declare it.
declare const WebAssembly: {
  readonly Memory: new (pages: { initial: number; maximum: number }) => { readonly buffer: ArrayBuffer };
  readonly Module: new (code: Uint8Array) => object;
  readonly Instance: new (module: object) => { readonly exports: unknown };
};

const WASM_PAGE_BYTES = 65_536;

/** By file; compiled once a thread, since an instance costs only its memory. */
const compiled = new Map<string, object>();

/**
 * @param file the compiled module
 * @param memoryBytes at most 4 GiB, zeroed
 * @returns what the module exports, and its memory
 * @throws ConvoyError `memory_refused`
 */
export function openWasm(
  file: URL,
  memoryBytes: number,
): { readonly functions: object; readonly memory: ArrayBuffer } {
  const module = compiled.get(file.href) ?? new WebAssembly.Module(readFileSync(file));
  compiled.set(file.href, module);
  try {
    const exports = new WebAssembly.Instance(module).exports as WasmExports;
    exports.memory.grow(Math.ceil(memoryBytes / WASM_PAGE_BYTES));
    return { functions: exports, memory: exports.memory.buffer };
  } catch (error) {
    throw new ConvoyError('memory_refused', 'could not reserve memory for WebAssembly', {
      hint: 'it asks for 10 GB of address space for each worker, with lz4 for 20: raise "ulimit -v", or use fewer workers',
      cause: error,
    });
  }
}

/**
 * Memory at an address that is a multiple of the machine's pages, zeroed, which Node.js promises for no buffer.
 *
 * @param bytes a multiple of 64 KiB
 * @returns undefined where there is no such memory
 */
export function allocatePages(bytes: number): ArrayBuffer | undefined {
  const pages = bytes / WASM_PAGE_BYTES;
  try {
    return new WebAssembly.Memory({ initial: pages, maximum: pages }).buffer;
  } catch (error) {
    if (error instanceof RangeError) return undefined;
    throw error;
  }
}
