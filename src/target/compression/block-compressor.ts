/*
 * What the methods of compression have in common: each makes, of any block, bytes that may follow those of any other
 * block, so that threads compress without knowing of each other. Used by archive-stream.ts.
 */

/** Bytes that are compressed at once. */
export const BLOCK_BYTES = 1024 * 1024;

/** What one block becomes, in order. */
export type Pieces = readonly Buffer[];

/** The blocks of one thread: taken when there is something to fill them with, given back when it has been used. */
export class BlockPool {
  readonly #make: () => Buffer;
  readonly #spare: Buffer[] = [];

  /** @param make BLOCK_BYTES of memory */
  constructor(make: () => Buffer = () => Buffer.allocUnsafeSlow(BLOCK_BYTES)) {
    this.#make = make;
  }

  take(): Buffer {
    return this.#spare.pop() ?? this.#make();
  }

  giveBack(block: Buffer): void {
    this.#spare.push(block);
  }
}

export interface BlockCompressor {
  /** What an archive begins with. */
  readonly head: Buffer;
  /** The end needs the CRC-32 of all bytes. */
  readonly needsCrc: boolean;
  /** What is compressed lies in these. */
  readonly blocks: BlockPool;
  /**
   * @param block the beginning of one that was taken, or all of it; borrowed until the result has been used
   * @returns what it becomes, valid until the block is given back
   */
  compress(block: Buffer): Pieces | Promise<Pieces>;
  /**
   * What an archive ends with.
   *
   * @param rawBytes of the whole archive, before compression
   * @param rawCrc CRC-32 of the same
   */
  tail(rawBytes: number, rawCrc: number): Buffer;
}
