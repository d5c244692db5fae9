/* Writes pieces that follow each other in an archive, gathered to blocks that begin at multiples of their size. */
import type { ArchiveFile } from './archive-file.js';
import type { BlockWrites } from './block-writes.js';

/** One at a time holds bytes in the blocks of a thread. */
export class GatheredWriter {
  readonly #archive: ArchiveFile;
  readonly #writes: BlockWrites;
  /** Where the held bytes belong. */
  #position: number;
  #held = 0;

  constructor(archive: ArchiveFile, writes: BlockWrites, position: number) {
    writes.prepare(archive);
    this.#archive = archive;
    this.#writes = writes;
    this.#position = position;
  }

  /** A header: in one write with what follows, where that follows at once. @throws ConvoyError `target_io` */
  putBefore(header: Buffer, place: number): void {
    if (place + header.length === this.#position) {
      this.#position = place;
      void this.write(header);
    } else {
      this.#archive.write(header, place);
    }
  }

  /**
   * @param chunk borrowed until it returns
   * @returns a promise where the caller should wait; it never rejects
   * @throws ConvoyError `target_io`, for this or for what was under way
   */
  write(chunk: Uint8Array): Promise<void> | undefined {
    for (let taken = 0; taken < chunk.length;) {
      const { block } = this.#writes;
      const at = (this.#position % block.length) + this.#held;
      const part = chunk.subarray(taken, taken + block.length - at);
      block.set(part, at);
      this.#held += part.length;
      taken += part.length;
      if (at + part.length === block.length) this.flush();
    }
    return this.#writes.room;
  }

  /** Nothing is held any more; it may be under way. @throws ConvoyError `target_io` */
  flush(): void {
    const [place, held] = [this.#position, this.#held];
    const start = place % this.#writes.block.length;
    this.#position += held;
    this.#held = 0;
    if (held > 0) this.#writes.put(this.#archive, start, start + held, place);
  }
}
