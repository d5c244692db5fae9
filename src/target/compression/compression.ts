/* How archives are compressed: what was asked for, as plain data that crosses to the worker threads. */

export const COMPRESSION_METHODS = ['none', 'gzip', 'lz4', 'zstd'] as const;
export type CompressionMethod = (typeof COMPRESSION_METHODS)[number];

export interface Compression {
  readonly method: CompressionMethod;
  /** As the method counts them; undefined: its default. */
  readonly level: number | undefined;
}

export const NO_COMPRESSION: Compression = { method: 'none', level: undefined };
