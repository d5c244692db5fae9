/* No compression: for archives on standard output, which are written by one thread after the other as compressed ones are. */
import { BlockPool, type BlockCompressor, type Pieces } from './block-compressor.js';

const NOTHING = Buffer.alloc(0);

export class NoCompressor implements BlockCompressor {
  readonly head = NOTHING;
  readonly needsCrc = false;
  readonly blocks = new BlockPool();

  compress(block: Buffer): Pieces {
    return [block];
  }

  tail(): Buffer {
    return NOTHING;
  }
}
