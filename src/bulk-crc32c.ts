/*
 * CRC-32C of whole files. aws-crt folds with carry-less multiplication: 25 GB/s, where @node-rs/crc32 has 6, and every byte of
 * a backup passes here. It is an optional dependency of 44 MB; without it all works, slower. Used by checksum.ts.
 */
import { createRequire } from 'node:module';
import { crc32c as steadyCrc32c } from '@node-rs/crc32';

type Crc32c = (data: Uint8Array, previous: number) => number;

let chosen: Crc32c | undefined;

/** @param previous what the bytes before had, or 0 */
export function bulkCrc32c(data: Uint8Array, previous: number): number {
  chosen ??= loadFast() ?? steadyCrc32c;
  return chosen(data, previous);
}

/** Loaded with the first file: its 50 ms of work are not for commands that check nothing. */
function loadFast(): Crc32c | undefined {
  try {
    // the index of the package would load its clients for network services, too
    const { crc32c } = createRequire(import.meta.url)('aws-crt/dist/native/checksums.js') as {
      readonly crc32c: Crc32c;
    };
    return crc32c(Buffer.from('123456789'), 0) === 0xe3069283 ? crc32c : undefined;
  } catch {
    return undefined;
  }
}
