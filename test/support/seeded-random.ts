/*
 * Random input that a failing test can name: the same seed gives the same bytes on every machine (mulberry32).
 */

export class SeededRandom {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** A whole number from 0 to below `limit`. */
  below(limit: number): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * limit);
  }

  chance(oneIn: number): boolean {
    return this.below(oneIn) === 0;
  }

  pick<Item>(items: readonly Item[]): Item {
    return items[this.below(items.length)] as Item;
  }

  bytes(length: number): Buffer {
    return Buffer.from(Array.from({ length }, () => this.below(256)));
  }

  /** Text of at most `maxLength` of these characters. */
  text(characters: readonly string[], maxLength: number): string {
    return Array.from({ length: this.below(maxLength + 1) }, () => this.pick(characters)).join('');
  }

  /** Cuts a buffer into pieces at random places; some are empty. */
  split(whole: Buffer, maxPiece: number): Buffer[] {
    const pieces: Buffer[] = [];
    for (let at = 0; at < whole.length;) {
      const length = this.below(maxPiece + 1);
      pieces.push(whole.subarray(at, at + length));
      at += length;
    }
    return pieces;
  }
}
