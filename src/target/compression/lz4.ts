/*
 * lz4: every block is a frame of its own, of one block. Levels up to 2 are its fast mode, as in liblz4, the others its high
 * compression mode.
 * Format: lz4's doc/lz4_Frame_format.md; ../lz4-frames.ts reads it.
 */
import {
  LZ4_HIGH_TABLE_BYTES,
  LZ4_HISTORY_BYTES,
  LZ4_SLACK_BYTES,
  openLz4,
  type Lz4Functions,
} from '../lz4-module.js';
import { BLOCK_BYTES, BlockPool, type BlockCompressor, type Pieces } from './block-compressor.js';

/**
 * Magic; version 1 with independent blocks and no checksums; blocks of up to 1 MiB; and the second byte of the xxHash of those
 * two bytes.
 */
const FRAME_HEADER = Buffer.from([0x04, 0x22, 0x4d, 0x18, 0x60, 0x60, 0x51]);
const END_MARK = Buffer.alloc(4);
/** In a block's size: it is stored as it is. */
const STORED = 0x8000_0000;
const NOTHING = Buffer.alloc(0);

/** How hard a level looks for long matches: at so many places at most, with so much of the match before left, or less. */
interface Effort {
  readonly attempts: number;
  readonly rest: number;
}

/**
 * By level. Fewer attempts than liblz4's make as few bytes here: measured on tables, indexes and WAL, within about 1 % of its sizes,
 * at 0.6 of its speed on average.
 */
const EFFORTS: ReadonlyMap<number, Effort> = new Map([
  [3, { attempts: 3, rest: 3 }],
  [4, { attempts: 4, rest: 4 }],
  [5, { attempts: 7, rest: 4 }],
  [6, { attempts: 12, rest: 4 }],
  [7, { attempts: 18, rest: 5 }],
  [8, { attempts: 26, rest: 5 }],
  [9, { attempts: 36, rest: 5 }],
  [10, { attempts: 56, rest: 12 }],
  [11, { attempts: 112, rest: 16 }],
  [12, { attempts: 160, rest: 20 }],
]);

// the encoder's tables lie in front of the bytes, which must be out of a match's reach from address 0
const TABLE = 0;
/** Between the bytes and the block that is made of them. */
const FRAME_START_BYTES = FRAME_HEADER.length + 4;
/** What encoding can make of a block that does not compress. */
const MAX_OUTPUT_BYTES = BLOCK_BYTES + Math.ceil(BLOCK_BYTES / 255) + LZ4_SLACK_BYTES;

export class Lz4Compressor implements BlockCompressor {
  readonly head = NOTHING;
  readonly needsCrc = false;
  readonly blocks = new BlockPool(() => this.#newBlock());
  readonly #frames = new WeakMap<ArrayBufferLike, Lz4Frame>();

  readonly #effort: Effort | undefined;

  /**
   * @param level up to 12; undefined: the fast mode
   * @throws ConvoyError `memory_refused`
   */
  constructor(level?: number) {
    this.#effort = EFFORTS.get(level ?? 0);
    this.blocks.giveBack(this.#newBlock());
  }

  compress(block: Buffer): Pieces {
    const frame = this.#frames.get(block.buffer);
    if (frame === undefined) throw new TypeError('a block is not of the pool');
    return frame.make(block);
  }

  tail(): Buffer {
    return NOTHING;
  }

  #newBlock(): Buffer {
    const frame = new Lz4Frame(this.#effort);
    this.#frames.set(frame.block.buffer, frame);
    return frame.block;
  }
}

/** Memory of a block, and of the frame that it becomes: nothing is copied between them. */
class Lz4Frame {
  readonly block: Buffer;
  readonly #wasm: Lz4Functions;
  readonly #memory: Buffer;
  readonly #effort: Effort | undefined;
  /** Addresses. */
  readonly #input: number;
  readonly #frame: number;
  readonly #output: number;

  /** @param effort undefined for the fast mode */
  constructor(effort: Effort | undefined) {
    this.#effort = effort;
    this.#input = effort === undefined ? LZ4_HISTORY_BYTES : LZ4_HIGH_TABLE_BYTES;
    this.#frame = this.#input + BLOCK_BYTES + LZ4_SLACK_BYTES;
    this.#output = this.#frame + FRAME_START_BYTES;
    const { wasm, memory } = openLz4(this.#output + MAX_OUTPUT_BYTES + LZ4_SLACK_BYTES);
    memory.set(FRAME_HEADER, this.#frame);
    this.block = memory.subarray(this.#input, this.#input + BLOCK_BYTES);
    this.#wasm = wasm;
    this.#memory = memory;
  }

  /** @param content the beginning of the block. @returns the frame, valid until the next call */
  make(content: Buffer): Pieces {
    const bytes = this.#encode(content.length);
    const size = this.#output - 4;
    if (bytes < content.length) {
      this.#memory.writeUInt32LE(bytes, size);
      this.#memory.set(END_MARK, this.#output + bytes);
      return [this.#memory.subarray(this.#frame, this.#output + bytes + END_MARK.length)];
    }
    this.#memory.writeUInt32LE(content.length + STORED, size);
    return [this.#memory.subarray(this.#frame, this.#output), content, END_MARK];
  }

  /** @returns the bytes of the block that the first `length` bytes become */
  #encode(length: number): number {
    if (this.#effort === undefined) return this.#wasm.encodeBlock(this.#input, length, this.#output, TABLE);
    const { attempts, rest } = this.#effort;
    return this.#wasm.encodeBlockHigh(this.#input, length, this.#output, attempts, rest);
  }
}
