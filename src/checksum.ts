/*
 * Checksums of whole files for the backup manifest: CRC-32C and SHA-2, all in native code.
 * Names and the byte order of the CRC: PostgreSQL's src/common/checksum_helper.c.
 */
import { createHash, type Hash } from 'node:crypto';
import { bulkCrc32c } from './bulk-crc32c.js';
import { assertNever } from './assert-never.js';

export const CHECKSUM_ALGORITHMS = ['NONE', 'CRC32C', 'SHA224', 'SHA256', 'SHA384', 'SHA512'] as const;
export type ChecksumAlgorithm = (typeof CHECKSUM_ALGORITHMS)[number];

/** Case does not matter, as in pg_checksum_parse_type; undefined where there is no such algorithm. */
export function parseChecksumAlgorithm(name: string): ChecksumAlgorithm | undefined {
  return CHECKSUM_ALGORITHMS.find((algorithm) => algorithm === name.toUpperCase());
}

/** One file's checksum while its bytes pass by. `update` only reads the chunk, before it returns. */
export interface FileChecksum {
  update(chunk: Uint8Array): void;
  /** Lower-case hexadecimal; empty for NONE. Call once. */
  digest(): string;
}

class Crc32cChecksum implements FileChecksum {
  #value = 0;

  update(chunk: Uint8Array): void {
    this.#value = bulkCrc32c(chunk, this.#value);
  }

  digest(): string {
    return formatCrc32c(this.#value);
  }
}

class ShaChecksum implements FileChecksum {
  readonly #hash: Hash;

  constructor(algorithm: ChecksumAlgorithm) {
    this.#hash = createHash(algorithm.toLowerCase());
  }

  update(chunk: Uint8Array): void {
    this.#hash.update(chunk);
  }

  digest(): string {
    return this.#hash.digest('hex');
  }
}

class NoChecksum implements FileChecksum {
  update(): void {}

  digest(): string {
    return '';
  }
}

export function createFileChecksum(algorithm: ChecksumAlgorithm): FileChecksum {
  switch (algorithm) {
    case 'NONE':
      return new NoChecksum();
    case 'CRC32C':
      return new Crc32cChecksum();
    case 'SHA224':
    case 'SHA256':
    case 'SHA384':
    case 'SHA512':
      return new ShaChecksum(algorithm);
    default:
      return assertNever(algorithm);
  }
}

/** The twin of {@link formatCrc32c}. */
export function parseCrc32c(hex: string): number {
  return Buffer.from(hex, 'hex').readUInt32LE();
}

/** PostgreSQL copies the CRC's four bytes as they lie in memory: least significant first. */
export function formatCrc32c(value: number): string {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value >>> 0);
  return bytes.toString('hex');
}
