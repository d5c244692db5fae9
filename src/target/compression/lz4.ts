/*
 * lz4: every block is a frame of its own, of one block. The library knows the fast mode only, which liblz4 takes for
 * levels up to 2. Format: lz4's doc/lz4_Frame_format.md; lz4-frames.ts reads it.
 */
import type * as Lz4Napi from 'lz4-napi';
import { ConvoyError } from '../../errors.js';
import { loadCommonJs } from '../../load-commonjs.js';
import type { BlockCompressor, Pieces } from './block-compressor.js';

const PACKAGE = 'lz4-napi';

/**
 * Magic; version 1 with independent blocks and no checksums; blocks of up to 1 MiB; and the second byte of the xxHash of those
 * two bytes.
 */
const FRAME_HEADER = Buffer.from([0x04, 0x22, 0x4d, 0x18, 0x60, 0x60, 0x51]);
const BLOCK_SIZE_BYTES = 4;
const END_MARK = Buffer.alloc(4);
/** In a block's size: it is stored as it is. */
const STORED = 0x8000_0000;
/** The library puts the size of the content before the block. */
const LIBRARY_PREFIX_BYTES = 4;
const NOTHING = Buffer.alloc(0);

export class Lz4Compressor implements BlockCompressor {
  readonly head = NOTHING;
  readonly needsCrc = false;
  readonly #compress: typeof Lz4Napi.compressSync;

  /** @throws ConvoyError `target_refused` where nothing here compresses lz4 */
  constructor() {
    this.#compress = findCompress();
  }

  compress(block: Buffer): Pieces {
    const compressed = this.#compress(block).subarray(LIBRARY_PREFIX_BYTES);
    const isSmaller = compressed.length < block.length;
    const content = isSmaller ? compressed : block;
    const size = Buffer.alloc(BLOCK_SIZE_BYTES);
    size.writeUInt32LE(isSmaller ? content.length : content.length + STORED);
    return [FRAME_HEADER, size, content, END_MARK];
  }

  tail(): Buffer {
    return NOTHING;
  }
}

function findCompress(): typeof Lz4Napi.compressSync {
  try {
    return (loadCommonJs(PACKAGE) as typeof Lz4Napi).compressSync;
  } catch (error) {
    throw new ConvoyError('target_refused', 'lz4 compression is not available', {
      hint: `install the package ${PACKAGE} for this machine`,
      cause: error,
    });
  }
}
