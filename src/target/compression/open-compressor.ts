/* A compressor from its description; one for each thread that writes archives. */
import { assertNever } from '../../assert-never.js';
import type { BlockCompressor } from './block-compressor.js';
import type { Compression } from './compression.js';
import { GzipCompressor } from './gzip.js';
import { Lz4Compressor } from './lz4.js';
import { NoCompressor } from './none.js';
import { ZstdCompressor } from './zstd.js';

/** @throws ConvoyError `target_refused` where this Node.js lacks the method, `memory_refused` */
export function openCompressor({ method, level }: Compression): BlockCompressor {
  switch (method) {
    case 'none':
      return new NoCompressor();
    case 'gzip':
      return new GzipCompressor(level);
    case 'lz4':
      return new Lz4Compressor(level);
    case 'zstd':
      return new ZstdCompressor(level);
    default:
      return assertNever(method);
  }
}
