/*
 * lz4: every block is a frame of its own, of one block. Fast mode only, which liblz4 takes for levels up to 2.
 * Format: lz4's doc/lz4_Frame_format.md; ../lz4-frames.ts reads it.
 */
import { LZ4_HISTORY_BYTES, LZ4_SLACK_BYTES, openLz4, type Lz4Functions } from '../lz4-module.js';
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

// the encoder's table lies in front of the bytes, which must be out of a match's reach from address 0
const TABLE = 0;
const INPUT = LZ4_HISTORY_BYTES;
const FRAME = INPUT + BLOCK_BYTES + LZ4_SLACK_BYTES;
const SIZE = FRAME + FRAME_HEADER.length;
const OUTPUT = SIZE + 4;
/** What encoding can make of a block that does not compress. */
const MAX_OUTPUT_BYTES = BLOCK_BYTES + Math.ceil(BLOCK_BYTES / 255) + LZ4_SLACK_BYTES;

export class Lz4Compressor implements BlockCompressor {
  readonly head = NOTHING;
  readonly needsCrc = false;
  readonly blocks = new BlockPool(() => this.#newBlock());
  readonly #frames = new WeakMap<ArrayBufferLike, Lz4Frame>();

  /** @throws ConvoyError `memory_refused` */
  constructor() {
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
    const frame = new Lz4Frame();
    this.#frames.set(frame.block.buffer, frame);
    return frame.block;
  }
}

/** Memory of a block, and of the frame that it becomes: nothing is copied between them. */
class Lz4Frame {
  readonly block: Buffer;
  readonly #wasm: Lz4Functions;
  readonly #memory: Buffer;

  constructor() {
    const { wasm, memory } = openLz4(OUTPUT + MAX_OUTPUT_BYTES + LZ4_SLACK_BYTES);
    memory.set(FRAME_HEADER, FRAME);
    this.block = memory.subarray(INPUT, INPUT + BLOCK_BYTES);
    this.#wasm = wasm;
    this.#memory = memory;
  }

  /** @param content the beginning of the block. @returns the frame, valid until the next call */
  make(content: Buffer): Pieces {
    const bytes = this.#wasm.encodeBlock(INPUT, content.length, OUTPUT, TABLE);
    if (bytes < content.length) {
      this.#memory.writeUInt32LE(bytes, SIZE);
      this.#memory.set(END_MARK, OUTPUT + bytes);
      return [this.#memory.subarray(FRAME, OUTPUT + bytes + END_MARK.length)];
    }
    this.#memory.writeUInt32LE(content.length + STORED, SIZE);
    return [this.#memory.subarray(FRAME, OUTPUT), content, END_MARK];
  }
}
