/*
 * CRC-32C of whole files. aws-crt folds with carry-less multiplication: 25 GB/s, where @node-rs/crc32 has 6, and every byte of
 * a backup passes here. It is an optional dependency of 44 MB; without it all works, slower. Used by checksum.ts.
 */
import { crc32c as steadyCrc32c } from './crc32.js';
import { loadCommonJs } from './load-commonjs.js';

type Crc32c = (data: Uint8Array, previous: number) => number;

/** Bytes of a thread that cost about as much more as loading the faster code does, twenty milliseconds a thread. */
const BYTES_BEFORE_FAST = 128 * 1024 ** 2;
/** The package's own code would run ldd to find out whether this is glibc; elsewhere this does not load. */
const BINARY = `aws-crt/dist/bin/${process.platform}-${process.arch}-glibc/aws-crt-nodejs.node`;

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
    const { checksums_crc32c: crc32c } = loadCommonJs(BINARY) as { readonly checksums_crc32c: Crc32c };
    return crc32c(Buffer.from('123456789'), 0) === 0xe3069283 ? crc32c : undefined;
  } catch {
    return undefined;
  }
}
