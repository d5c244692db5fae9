/*
 * The CRC-32C of a whole from the CRCs of its parts, without its bytes: so that several workers can copy one file.
 * Arithmetic: appending n zero bytes multiplies the CRC by x^(8n) modulo the polynomial; see zlib's crc32_combine.
 */

/** Castagnoli, bits reversed. */
const POLYNOMIAL = 0x82f63b78;

/** a * b modulo the polynomial, bits reversed (bit 31 is x^0). */
function multiply(a: number, b: number): number {
  let product = 0;
  let factor = b;
  for (let bit = 31; bit >= 0; bit -= 1) {
    if ((a >>> bit) & 1) product ^= factor;
    factor = factor & 1 ? (factor >>> 1) ^ POLYNOMIAL : factor >>> 1;
  }
  return product >>> 0;
}

/** x^(8 * 2^k) for k = 0, 1, ... */
const POWERS: number[] = [];

function powerOf(k: number): number {
  for (let known = POWERS.length; known <= k; known += 1) {
    const previous = POWERS[known - 1];
    // x^8 is bit 23
    POWERS.push(previous === undefined ? 0x0080_0000 : multiply(previous, previous));
  }
  return POWERS[k] ?? 0;
}

/**
 * @param first CRC-32C of the first part
 * @param second CRC-32C of the second part
 * @param secondBytes length of the second part
 */
export function combineCrc32c(first: number, second: number, secondBytes: number): number {
  let shifted = first;
  let rest = secondBytes;
  for (let k = 0; rest > 0; k += 1) {
    if (rest % 2 === 1) shifted = multiply(powerOf(k), shifted);
    rest = Math.floor(rest / 2);
  }
  return (shifted ^ second) >>> 0;
}
