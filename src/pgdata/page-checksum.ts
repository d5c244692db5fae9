/*
 * Memory whose pages can be checked in place: the I/O buffers of a worker or a server session are views of a
 * WebAssembly memory, files and sockets are read into them and written from them, and PostgreSQL's page checksum is
 * calculated where the bytes lie. Called by page-verifier.ts; assembly/page-checksum.ts is the code inside.
 * What is checked: verify_page_checksum() in PostgreSQL's src/backend/backup/basebackup.c.
 */
import { PAGE_BYTES } from '../limits.js';
import type { Lsn } from '../lsn.js';
import { openWasm } from '../wasm-memory.js';

/** What assembly/page-checksum.ts exports; addresses are byte offsets in the memory. */
interface PageChecksumFunctions {
  findBadPages(
    firstPage: number,
    pageCount: number,
    firstBlock: number,
    startLsn: bigint,
    findings: number,
  ): number;
}

/** What 32-bit addresses reach. */
const MAX_MEMORY_BYTES = 4 * 1024 ** 3;

/** The bytes of one finding: block uint32, stored checksum uint16, calculated checksum uint16, little-endian. */
const FINDING_BYTES = 8;

const NO_BAD_PAGES: readonly BadPage[] = [];

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
  readonly #wasm: PageChecksumFunctions;
  readonly #memory: ArrayBuffer;
  readonly #dataBytes: number;
  readonly #findings: DataView;

  private constructor(
    wasm: PageChecksumFunctions,
    memory: ArrayBuffer,
    { bufferCount, bufferBytes }: PageMemorySize,
  ) {
    this.#wasm = wasm;
    this.#memory = memory;
    this.#dataBytes = bufferCount * bufferBytes;
    this.#findings = new DataView(memory, this.#dataBytes);
    this.buffers = Array.from({ length: bufferCount }, (_, index) =>
      Buffer.from(memory, index * bufferBytes, bufferBytes),
    );
  }

  /**
   * Takes the memory: the buffers plus 1/1024 of their size for findings. Synchronous; the first call in a thread reads
   * and compiles the module.
   *
   * @throws RangeError when a size is not positive, not a multiple of PAGE_BYTES, or more than 32 bits address
   * @throws ConvoyError `memory_refused`
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
    if (dataBytes + findingBytes > MAX_MEMORY_BYTES) {
      throw new RangeError(`a page memory cannot have ${dataBytes} bytes`);
    }
    const { functions, memory } = openWasm(
      new URL(import.meta.resolve('#program/page-checksum.wasm')),
      dataBytes + findingBytes,
    );
    return new PageMemory(functions as PageChecksumFunctions, memory, size);
  }

  /** @throws RangeError when there is no such buffer. */
  buffer(index: number): Buffer {
    const buffer = this.buffers[index];
    if (buffer === undefined) throw new RangeError(`there is no buffer ${index} in this page memory`);
    return buffer;
  }

  /** True for a view of these buffers; the bytes of any other must be copied into one to be checked. */
  contains(view: Uint8Array): boolean {
    return view.buffer === this.#memory;
  }

  /**
   * The bad pages in a view of one or more of the buffers, in block order; reads the bytes and keeps nothing. The view
   * may begin anywhere. New pages (pd_upper 0) and pages changed since `startLsn` count as good.
   *
   * @throws RangeError when the view lies outside the buffers or is not a whole number of pages.
   */
  findBadPages(view: Uint8Array, { firstBlock, startLsn }: PageRun): readonly BadPage[] {
    if (view.buffer !== this.#memory || view.byteOffset + view.byteLength > this.#dataBytes) {
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
