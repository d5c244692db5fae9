/*
 * Memory for the compressed pieces of one task. They are copied into it as they come: those of some compressors lie in memory
 * that the next block overwrites, and those that are buffers of their own cost the garbage collector least when they live no
 * longer than a moment. Used by held-pieces.ts and standard-output-outlet.ts.
 */

/** Bytes of a task that are kept in memory. */
const MAX_HELD_BYTES = 16 * 1024 * 1024;

/** Memory that holds nothing: a thread fills one archive at a time, whatever their number, so there is one. */
const spare: Buffer[] = [];

export class PieceMemory {
  #memory: Buffer | undefined;
  #bytes = 0;

  get bytes(): number {
    return this.#bytes;
  }

  /** What was added; valid until the next call. */
  get content(): Buffer {
    return this.#memory?.subarray(0, this.#bytes) ?? Buffer.alloc(0);
  }

  hasRoom(pieces: readonly Buffer[]): boolean {
    return this.#bytes + bytesOf(pieces) <= MAX_HELD_BYTES;
  }

  /** @throws RangeError where there is no room */
  add(pieces: readonly Buffer[]): void {
    this.#memory ??= spare.pop() ?? Buffer.allocUnsafeSlow(MAX_HELD_BYTES);
    for (const piece of pieces) {
      this.#memory.set(piece, this.#bytes);
      this.#bytes += piece.length;
    }
  }

  clear(): void {
    if (this.#memory !== undefined) spare.push(this.#memory);
    this.#memory = undefined;
    this.#bytes = 0;
  }
}

export function bytesOf(pieces: readonly Buffer[]): number {
  return pieces.reduce((sum, { length }) => sum + length, 0);
}
