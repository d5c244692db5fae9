/*
 * The CRC of a whole from the CRCs of its parts, without its bytes: CRC-32C, so that several workers can copy one file, and
 * the CRC-32 of gzip, so that they can compress one archive.
 * Arithmetic: appending n zero bytes multiplies the CRC by x^(8n) modulo the polynomial; see zlib's crc32_combine.
 */

/** Combines two CRCs of one kind. */
export class CrcCombination {
  /** Bits reversed. */
  readonly #polynomial: number;
  /** x^(8 * 2^k) for k = 0, 1, ... */
  readonly #powers: number[] = [];

  constructor(polynomial: number) {
    this.#polynomial = polynomial;
  }

  /**
   * @param first CRC of the first part
   * @param second CRC of the second part
   * @param secondBytes length of the second part
   */
  combine(first: number, second: number, secondBytes: number): number {
    let shifted = first;
    let rest = secondBytes;
    for (let k = 0; rest > 0; k += 1) {
      if (rest % 2 === 1) shifted = this.#multiply(this.#powerOf(k), shifted);
      rest = Math.floor(rest / 2);
    }
    return (shifted ^ second) >>> 0;
  }

  /** a * b modulo the polynomial, bits reversed (bit 31 is x^0). */
  #multiply(a: number, b: number): number {
    let product = 0;
    let factor = b;
    for (let bit = 31; bit >= 0; bit -= 1) {
      if ((a >>> bit) & 1) product ^= factor;
      factor = factor & 1 ? (factor >>> 1) ^ this.#polynomial : factor >>> 1;
    }
    return product >>> 0;
  }

  #powerOf(k: number): number {
    for (let known = this.#powers.length; known <= k; known += 1) {
      const previous = this.#powers[known - 1];
      // x^8 is bit 23
      this.#powers.push(previous === undefined ? 0x0080_0000 : this.#multiply(previous, previous));
    }
    return this.#powers[k] ?? 0;
  }
}

/** Castagnoli. */
export const CRC32C: CrcCombination = new CrcCombination(0x82f6_3b78);

/** That of gzip (RFC 1952). */
export const CRC32: CrcCombination = new CrcCombination(0xedb8_8320);
