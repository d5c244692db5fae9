/*
 * Memory whose pages can be checked in place: the I/O buffers of a worker or a server session are views of a
 * WebAssembly memory, files and sockets are read into them and written from them, and PostgreSQL's page checksum is
 * calculated where the bytes lie. Called by page-verifier.ts; assembly/page-checksum.ts is the code inside.
 * What is checked: verify_page_checksum() in PostgreSQL's src/backend/backup/basebackup.c.
 */
import { readFileSync } from 'node:fs';

import { PAGE_BYTES } from '../limits.js';
import type { Lsn } from '../lsn.js';

interface WasmMemory {
  readonly buffer: ArrayBuffer;
  /** By a number of WebAssembly's own pages. Throws a RangeError when there is no such memory. */
  grow(wasmPages: number): number;
}

/** What assembly/page-checksum.ts exports; addresses are byte offsets in `memory`. */
interface PageChecksumExports {
  readonly memory: WasmMemory;
  findBadPages(
    firstPage: number,
    pageCount: number,
    firstBlock: number,
    startLsn: bigint,
    findings: number,
  ): number;
}

/** A compiled module; nothing is done with it but to instantiate it. */
type WasmModule = object;

// Node.js has this global, @types/node 20 does not declare it.
declare const WebAssembly: {
  readonly Module: new (code: Uint8Array) => WasmModule;
  readonly Instance: new (module: WasmModule) => { readonly exports: PageChecksumExports };
};

const WASM_PAGE_BYTES = 65_536;

/** 4 GiB, what 32-bit addresses reach. */
const MAX_WASM_PAGES = 65_536;

/** The bytes of one finding: block uint32, stored checksum uint16, calculated checksum uint16, little-endian. */
const FINDING_BYTES = 8;

const NO_BAD_PAGES: readonly BadPage[] = [];

let compiled: WasmModule | undefined;

/** Compiled once a thread; an instance costs only its memory. */
function pageChecksumModule(): WasmModule {
  compiled ??= new WebAssembly.Module(readFileSync(new URL('page-checksum.wasm', import.meta.url)));
  return compiled;
}

/** A page whose stored checksum is not the one its content has. */
export interface BadPage {
  /** Block number in the relation, not in the segment file. */
  readonly block: number;
  /** The checksum stored on the page (pd_checksum). */
  readonly expected: number;
  readonly calculated: number;
}

export interface PageRun {
  /** Block number in the relation of the first page: block in the file plus segment number * SEGMENT_PAGES. */
  readonly firstBlock: number;
  /** Pages with an LSN from here on are passed over: they may be torn, and WAL replay makes them good. */
  readonly startLsn: Lsn;
}

export interface PageMemorySize {
  readonly bufferCount: number;
  /** A multiple of PAGE_BYTES. */
  readonly bufferBytes: number;
}

/**
 * Equal buffers over one memory that never grows (growing would detach them). The buffers belong to whoever created
 * the memory and live as long as it does; they cannot be transferred to another thread.
 */
export class PageMemory {
  /** Each begins at a multiple of PAGE_BYTES, also in the address space, so they do for O_DIRECT. Zeroed at first. */
  readonly buffers: readonly Buffer[];
  readonly #wasm: PageChecksumExports;
  readonly #dataBytes: number;
  readonly #findings: DataView;

  private constructor(wasm: PageChecksumExports, { bufferCount, bufferBytes }: PageMemorySize) {
    this.#wasm = wasm;
    this.#dataBytes = bufferCount * bufferBytes;
    this.#findings = new DataView(wasm.memory.buffer, this.#dataBytes);
    this.buffers = Array.from({ length: bufferCount }, (_, index) =>
      Buffer.from(wasm.memory.buffer, index * bufferBytes, bufferBytes),
    );
  }

  /**
   * Takes the memory: the buffers plus 1/1024 of their size for findings. Synchronous; the first call in a thread reads
   * and compiles the module.
   *
   * @throws RangeError when a size is not positive, not a multiple of PAGE_BYTES, or more
   * than the machine has or 32 bits address.
   */
  static create(size: PageMemorySize): PageMemory {
    const { bufferCount, bufferBytes } = size;
    if (!Number.isSafeInteger(bufferCount) || bufferCount < 1) {
      throw new RangeError(`a page memory cannot have ${bufferCount} buffers`);
    }
    if (!Number.isSafeInteger(bufferBytes) || bufferBytes < PAGE_BYTES || bufferBytes % PAGE_BYTES !== 0) {
      throw new RangeError(`a buffer of ${bufferBytes} bytes is not a whole number of pages`);
    }
    const dataBytes = bufferCount * bufferBytes;
    const findingBytes = (dataBytes / PAGE_BYTES) * FINDING_BYTES;
    const wasmPages = Math.ceil((dataBytes + findingBytes) / WASM_PAGE_BYTES);
    if (wasmPages > MAX_WASM_PAGES) {
      throw new RangeError(`a page memory cannot have ${dataBytes} bytes`);
    }
    // The module has no data of its own and asks for no memory; this is the only time that it grows.
    const { exports: wasm } = new WebAssembly.Instance(pageChecksumModule());
    wasm.memory.grow(wasmPages);
    return new PageMemory(wasm, size);
  }

  /** @throws RangeError when there is no such buffer. */
  buffer(index: number): Buffer {
    const buffer = this.buffers[index];
    if (buffer === undefined) throw new RangeError(`there is no buffer ${index} in this page memory`);
    return buffer;
  }

  /** True for a view of these buffers; the bytes of any other must be copied into one to be checked. */
  contains(view: Uint8Array): boolean {
    return view.buffer === this.#wasm.memory.buffer;
  }

  /**
   * The bad pages in a view of one or more of the buffers, in block order; reads the bytes and keeps nothing. The view
   * may begin anywhere. New pages (pd_upper 0) and pages changed since `startLsn` count as good.
   *
   * @throws RangeError when the view lies outside the buffers or is not a whole number of pages.
   */
  findBadPages(view: Uint8Array, { firstBlock, startLsn }: PageRun): readonly BadPage[] {
    if (view.buffer !== this.#wasm.memory.buffer || view.byteOffset + view.byteLength > this.#dataBytes) {
      throw new RangeError('the pages to check lie outside the page memory');
    }
    if (view.byteLength % PAGE_BYTES !== 0) {
      throw new RangeError(`${view.byteLength} bytes are not a whole number of pages`);
    }
    const count = this.#wasm.findBadPages(
      view.byteOffset,
      view.byteLength / PAGE_BYTES,
      firstBlock,
      startLsn,
      this.#dataBytes,
    );
    return count === 0 ? NO_BAD_PAGES : this.#decodeFindings(count);
  }

  #decodeFindings(count: number): BadPage[] {
    return Array.from({ length: count }, (_, index) => ({
      block: this.#findings.getUint32(index * FINDING_BYTES, true),
      expected: this.#findings.getUint16(index * FINDING_BYTES + 4, true),
      calculated: this.#findings.getUint16(index * FINDING_BYTES + 6, true),
    }));
  }
}
