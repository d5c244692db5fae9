/*
 * zstd: every block is a frame. Node.js has it itself from 22.15 on; before that an optional dependency does it, in libuv's
 * threads, so that its results come as promises.
 */
import * as zlib from 'node:zlib';
import { ConvoyError } from '../../errors.js';
import { loadCommonJs } from '../../load-commonjs.js';
import { BlockPool, type BlockCompressor, type Pieces } from './block-compressor.js';
import { collectBuffers } from './buffer-collection.js';

/** ZSTD_CLEVEL_DEFAULT */
const DEFAULT_LEVEL = 3;
/** ZSTD_c_compressionLevel */
const LEVEL_PARAMETER = 100;
const OPTIONAL_PACKAGE = '@mongodb-js/zstd';
/** What the package itself exports drops the level. */
const BINDINGS = `${OPTIONAL_PACKAGE}/bindings`;
const NOTHING = Buffer.alloc(0);

type Compress = (block: Buffer, level: number) => Buffer | Promise<Buffer>;

/** What @types/node 20 does not know. */
interface NativeZstd {
  readonly zstdCompressSync?: (
    block: Buffer,
    options: { readonly params: Readonly<Record<number, number>> },
  ) => Buffer;
}

export class ZstdCompressor implements BlockCompressor {
  readonly head = NOTHING;
  readonly needsCrc = false;
  readonly blocks = new BlockPool();
  readonly #level: number;
  readonly #compress: Compress;

  /** @throws ConvoyError `target_refused` where nothing here compresses zstd */
  constructor(level: number | undefined) {
    this.#level = level ?? DEFAULT_LEVEL;
    this.#compress = findCompress();
  }

  compress(block: Buffer): Pieces | Promise<Pieces> {
    collectBuffers(block.length);
    const compressed = this.#compress(block, this.#level);
    return Buffer.isBuffer(compressed) ? [compressed] : compressed.then((piece) => [piece]);
  }

  tail(): Buffer {
    return NOTHING;
  }
}

function findCompress(): Compress {
  const { zstdCompressSync } = zlib as NativeZstd;
  if (zstdCompressSync !== undefined) {
    return (block, level) => zstdCompressSync(block, { params: { [LEVEL_PARAMETER]: level } });
  }
  try {
    const { compress } = loadCommonJs(BINDINGS) as {
      compress(this: void, block: Buffer, level: number): Promise<Buffer>;
    };
    return compress;
  } catch (error) {
    throw new ConvoyError('target_refused', 'zstd compression is not available', {
      hint: `use Node.js 22.15 or newer, or install the package ${OPTIONAL_PACKAGE}`,
      cause: error,
    });
  }
}
