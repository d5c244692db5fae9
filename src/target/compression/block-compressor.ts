/*
 * What the methods of compression have in common: each makes, of any block, bytes that may follow those of any other
 * block, so that threads compress without knowing of each other. Used by archive-stream.ts.
 */

/** Bytes that are compressed at once. */
export const BLOCK_BYTES = 1024 * 1024;

/** What one block becomes, in order. */
export type Pieces = readonly Buffer[];

export interface BlockCompressor {
  /** What an archive begins with. */
  readonly head: Buffer;
  /** The end needs the CRC-32 of all bytes. */
  readonly needsCrc: boolean;
  /**
   * @param block at most BLOCK_BYTES; borrowed until the result has been used
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
