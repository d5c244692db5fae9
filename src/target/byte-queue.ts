/*
 * Takes lengths of bytes that the format says from chunks as they come; for the frames of lz4 and zstd.
 */

export class ByteQueue {
  readonly #source: AsyncIterator<Buffer>;
  readonly #ended: () => Error;
  #chunk: Buffer = Buffer.alloc(0);
  #at = 0;

  /** @param ended the error to throw where the bytes end too early */
  constructor(source: AsyncIterable<Buffer>, ended: () => Error) {
    this.#source = source[Symbol.asyncIterator]();
    this.#ended = ended;
  }

  /** True where nothing comes any more. */
  async isEmpty(): Promise<boolean> {
    while (this.#at === this.#chunk.length) if (!(await this.#next())) return true;
    return false;
  }

  /** @returns `length` bytes, not to be changed */
  async take(length: number): Promise<Buffer> {
    const end = this.#at + length;
    if (end <= this.#chunk.length) {
      const taken = this.#chunk.subarray(this.#at, end);
      this.#at = end;
      return taken;
    }
    return await this.#takeFromSeveral(length);
  }

  async skip(length: number): Promise<void> {
    for (let left = length; left > 0;) {
      if (await this.isEmpty()) throw this.#ended();
      const skipped = Math.min(left, this.#chunk.length - this.#at);
      this.#at += skipped;
      left -= skipped;
    }
  }

  /** Gives the source back, read to its end or not. */
  async close(): Promise<void> {
    await this.#source.return?.();
  }

  async #takeFromSeveral(length: number): Promise<Buffer> {
    const parts: Buffer[] = [];
    for (let missing = length; missing > 0;) {
      if (await this.isEmpty()) throw this.#ended();
      const part = this.#chunk.subarray(this.#at, this.#at + missing);
      this.#at += part.length;
      missing -= part.length;
      parts.push(part);
    }
    return Buffer.concat(parts, length);
  }

  async #next(): Promise<boolean> {
    const { done, value } = await this.#source.next();
    if (done === true) return false;
    this.#chunk = value;
    this.#at = 0;
    return true;
  }
}
