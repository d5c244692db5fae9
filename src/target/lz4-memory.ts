/*
 * Memory in which lz4 blocks are decoded and hashed. Called by lz4-frames.ts.
 */
import { LZ4_HISTORY_BYTES, LZ4_SLACK_BYTES, openLz4, type Lz4Functions } from './lz4-module.js';

/** The largest block that a frame can announce. */
export const MAX_LZ4_BLOCK_BYTES = 4 * 1024 * 1024;

// the bytes decoded last lie in front of the block that is decoded next
const OUTPUT = LZ4_HISTORY_BYTES;
const INPUT = OUTPUT + MAX_LZ4_BLOCK_BYTES + LZ4_SLACK_BYTES;
const MEMORY_BYTES = INPUT + MAX_LZ4_BLOCK_BYTES + LZ4_SLACK_BYTES;

export class Lz4Memory {
  readonly #wasm: Lz4Functions;
  readonly #bytes: Buffer;
  /** Bytes of the block decoded last; they become history when the next one is decoded. */
  #decoded = 0;
  #history = 0;
  /** Bytes at the end of what was decoded that the running hash has not taken yet. */
  #unhashed = 0;

  constructor() {
    const { wasm, memory } = openLz4(MEMORY_BYTES);
    this.#wasm = wasm;
    this.#bytes = memory;
  }

  /** Forgets what was decoded: a frame begins. */
  beginFrame(): void {
    this.#decoded = 0;
    this.#history = 0;
    this.#unhashed = 0;
    this.#wasm.beginHash();
  }

  /**
   * @param maxBytes of what is decoded
   * @param isLinked whether matches may reach back into the blocks before
   * @returns the decoded bytes, valid until the next call; undefined where the block is damaged
   */
  decode(block: Uint8Array, maxBytes: number, isLinked: boolean): Buffer | undefined {
    this.#keepHistory();
    if (block.length > MAX_LZ4_BLOCK_BYTES) return undefined;
    this.#bytes.set(block, INPUT);
    const lowest = isLinked ? OUTPUT - this.#history : OUTPUT;
    return this.#take(this.#wasm.decodeBlock(INPUT, block.length, OUTPUT, maxBytes, lowest));
  }

  /** A block that is stored as it is. */
  store(block: Uint8Array, maxBytes: number): Buffer | undefined {
    this.#keepHistory();
    if (block.length > maxBytes) return undefined;
    this.#bytes.set(block, OUTPUT);
    return this.#take(block.length);
  }

  /** Adds what was decoded last to the hash of the frame's content. */
  hashDecoded(): void {
    const from = OUTPUT - this.#unhashed;
    this.#unhashed = this.#wasm.addToHash(from, this.#unhashed + this.#decoded);
  }

  /** XXH32 of all that was given to `hashDecoded` since the frame began. */
  contentHash(): number {
    const from = OUTPUT + this.#decoded - this.#unhashed;
    return this.#wasm.endHash(from, this.#unhashed) >>> 0;
  }

  /** XXH32 of at most MAX_LZ4_BLOCK_BYTES. */
  hashOf(bytes: Uint8Array): number {
    this.#bytes.set(bytes, INPUT);
    return this.#wasm.hashOf(INPUT, bytes.length) >>> 0;
  }

  #keepHistory(): void {
    this.#bytes.copyWithin(0, this.#decoded, this.#decoded + LZ4_HISTORY_BYTES);
    this.#history = Math.min(LZ4_HISTORY_BYTES, this.#history + this.#decoded);
    this.#decoded = 0;
  }

  #take(count: number): Buffer | undefined {
    if (count < 0) return undefined;
    this.#decoded = count;
    return this.#bytes.subarray(OUTPUT, OUTPUT + count);
  }
}
