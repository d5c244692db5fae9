/*
 * The way of a task's compressed pieces into an archive that is a file: held until the task is complete, then written where
 * room was reserved for all of them. A task that is done again leaves nothing twice.
 */
import { closeSync, constants, openSync } from 'node:fs';
import { fileError } from '../errors.js';
import type { ArchiveState } from './archive-state.js';
import type { PieceOutlet } from './archive-stream.js';
import { HeldPieces, writeWhole } from './held-pieces.js';

export class ArchiveFileOutlet implements PieceOutlet {
  readonly #path: string;
  readonly #state: ArchiveState;
  readonly #archive: number;
  readonly #held: HeldPieces;
  #descriptor: number | undefined;

  constructor(file: string, state: ArchiveState, archive: number) {
    this.#path = file;
    this.#state = state;
    this.#archive = archive;
    this.#held = new HeldPieces(file);
  }

  put(pieces: readonly Buffer[]): undefined {
    this.#held.add(pieces);
  }

  commit(): Promise<number> {
    const place = this.#state.reserve(this.#archive, this.#held.bytes);
    try {
      const descriptor = (this.#descriptor ??= openSync(
        this.#path,
        constants.O_WRONLY | constants.O_NOFOLLOW,
      ));
      let position = place;
      for (const piece of this.#held.take()) {
        this.#state.writeAlone(this.#archive, () => writeWhole(descriptor, piece, position));
        position += piece.length;
      }
    } catch (error) {
      return Promise.reject(fileError('write file', this.#path, error));
    }
    return Promise.resolve(place);
  }

  rollback(): boolean {
    this.#held.clear();
    return true;
  }

  close(): void {
    this.#held.close();
    if (this.#descriptor !== undefined) closeSync(this.#descriptor);
    this.#descriptor = undefined;
  }
}
