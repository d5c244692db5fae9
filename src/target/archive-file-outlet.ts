/*
 * The way of a task's compressed pieces into an archive that is a file: held until the task is complete, then written where
 * room was reserved for all of them. A task that is done again leaves nothing twice.
 */
import { ArchiveFile } from './archive-file.js';
import type { ArchiveState } from './archive-state.js';
import type { PieceOutlet } from './archive-stream.js';
import type { BlockWrites } from './block-writes.js';
import { GatheredWriter } from './gathered-writer.js';
import { HeldPieces } from './held-pieces.js';

/** Handed on at once, that the disk can be waited for in between. */
const PART_BYTES = 1024 * 1024;

export class ArchiveFileOutlet implements PieceOutlet {
  readonly #path: string;
  readonly #state: ArchiveState;
  readonly #archive: number;
  readonly #writes: BlockWrites;
  readonly #held: HeldPieces;
  #file: ArchiveFile | undefined;

  /** @param writes of this thread */
  constructor(file: string, state: ArchiveState, archive: number, writes: BlockWrites) {
    this.#path = file;
    this.#state = state;
    this.#archive = archive;
    this.#writes = writes;
    this.#held = new HeldPieces(file);
  }

  put(pieces: readonly Buffer[]): undefined {
    this.#held.add(pieces);
  }

  async commit(): Promise<number> {
    const place = this.#state.reserve(this.#archive, this.#held.bytes);
    this.#file ??= new ArchiveFile(this.#path, this.#state, this.#archive);
    const writer = new GatheredWriter(this.#file, this.#writes, place);
    for (const piece of this.#held.take()) {
      for (let at = 0; at < piece.length; at += PART_BYTES) {
        // oxlint-disable-next-line eslint/no-await-in-loop
        await writer.write(piece.subarray(at, at + PART_BYTES));
      }
    }
    writer.flush();
    return place;
  }

  async settle(): Promise<void> {
    await this.#file?.settle();
  }

  rollback(): boolean {
    this.#held.clear();
    return true;
  }

  close(): void {
    this.#held.close();
    this.#file?.close();
    this.#file = undefined;
  }
}
