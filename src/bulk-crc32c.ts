/*
 * CRC-32C of whole files. aws-crt folds with carry-less multiplication: 25 GB/s, where @node-rs/crc32 has 6, and every byte of
 * a backup passes here. It is an optional dependency of 44 MB; without it all works, slower. Used by checksum.ts.
 */
import { crc32c as steadyCrc32c } from './crc32.js';
import { loadCommonJs } from './load-commonjs.js';

type Crc32c = (data: Uint8Array, previous: number) => number;

/** Bytes of a thread that cost about as much more as loading the faster code does, a tenth of a second. */
const BYTES_BEFORE_FAST = 256 * 1024 ** 2;

let chosen = steadyCrc32c as Crc32c;
let bytesBeforeFast = BYTES_BEFORE_FAST;

/** @param previous what the bytes before had, or 0 */
export function bulkCrc32c(data: Uint8Array, previous: number): number {
  if (bytesBeforeFast > 0) {
    bytesBeforeFast -= data.length;
    if (bytesBeforeFast <= 0) chosen = loadFast() ?? chosen;
  }
  return chosen(data, previous);
}

function loadFast(): Crc32c | undefined {
  try {
    // the index of the package would load its clients for network services, too
    const { crc32c } = loadCommonJs('aws-crt/dist/native/checksums.js') as {
      readonly crc32c: Crc32c;
    };
    return crc32c(Buffer.from('123456789'), 0) === 0xe3069283 ? crc32c : undefined;
  } catch {
    return undefined;
  }
}
