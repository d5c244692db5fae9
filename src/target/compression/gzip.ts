/*
 * gzip, as pigz makes it: one member, since pg_verifybackup reads no second one. Every block is raw deflate that ends at
 * a byte (a sync flush) and refers to nothing before it; the last block of all is an empty one, and the trailer's CRC is
 * put together from those of the parts. Formats: RFC 1951 and 1952.
 */
import { constants, deflateRawSync } from 'node:zlib';
import { BLOCK_BYTES, BlockPool, type BlockCompressor, type Pieces } from './block-compressor.js';
import { collectBuffers } from './buffer-collection.js';

/** Magic, method 8 (deflate), no flags, no time, no extra flags, Unix. */
const HEADER = Buffer.from([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3]);
/** A final block with static codes, and nothing in it but its end. */
const LAST_BLOCK = Buffer.from([0x03, 0x00]);
/** Most blocks come out in one piece. */
const CHUNK_BYTES = BLOCK_BYTES / 2;

export class GzipCompressor implements BlockCompressor {
  readonly head = HEADER;
  readonly needsCrc = true;
  readonly blocks = new BlockPool();
  readonly #level: number;

  constructor(level: number | undefined) {
    this.#level = level ?? constants.Z_DEFAULT_COMPRESSION;
  }

  compress(block: Buffer): Pieces {
    collectBuffers(block.length);
    const options = { level: this.#level, chunkSize: CHUNK_BYTES, finishFlush: constants.Z_SYNC_FLUSH };
    return [deflateRawSync(block, options)];
  }

  tail(rawBytes: number, rawCrc: number): Buffer {
    const trailer = Buffer.alloc(8);
    trailer.writeUInt32LE(rawCrc, 0);
    trailer.writeUInt32LE(rawBytes % 2 ** 32, 4);
    return Buffer.concat([LAST_BLOCK, trailer]);
  }
}
