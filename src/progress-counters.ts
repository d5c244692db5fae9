/*
 * Bytes and files done, counted by all worker threads in shared memory, read by whoever shows progress.
 */

const BYTES = 0;
const FILES = 1;

export interface ProgressCount {
  readonly bytes: number;
  readonly files: number;
}

export class ProgressCounters {
  readonly memory: SharedArrayBuffer;
  readonly #counters: BigInt64Array;

  constructor(memory = new SharedArrayBuffer(2 * BigInt64Array.BYTES_PER_ELEMENT)) {
    this.memory = memory;
    this.#counters = new BigInt64Array(memory);
  }

  /** Negative where a task that failed is taken back. */
  add(bytes: number, files: number): void {
    Atomics.add(this.#counters, BYTES, BigInt(bytes));
    if (files !== 0) Atomics.add(this.#counters, FILES, BigInt(files));
  }

  read(): ProgressCount {
    return {
      bytes: Number(Atomics.load(this.#counters, BYTES)),
      files: Number(Atomics.load(this.#counters, FILES)),
    };
  }
}
