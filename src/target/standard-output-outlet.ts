/*
 * The way of a task's pieces to standard output: held up to a bound; when the task is complete, or outgrows the bound, its
 * thread takes the lock that all share, and keeps it until the task is complete. What has begun to leave cannot be taken
 * back.
 */
import { BASE_ARCHIVE } from './archive-layout.js';
import type { ArchiveState } from './archive-state.js';
import type { PieceOutlet } from './archive-stream.js';
import { MAX_HELD_BYTES } from './held-pieces.js';
import { StandardOutput } from './standard-output.js';

export class StandardOutputOutlet implements PieceOutlet {
  readonly #state: ArchiveState;
  readonly #output = new StandardOutput();
  #held: Buffer[] = [];
  #heldBytes = 0;
  /** Bytes since the last commit. */
  #bytes = 0;
  #hasLock = false;

  constructor(state: ArchiveState) {
    this.#state = state;
  }

  put(piece: Buffer): Promise<void> | undefined {
    this.#held.push(piece);
    this.#heldBytes += piece.length;
    this.#bytes += piece.length;
    return this.#hasLock || this.#heldBytes > MAX_HELD_BYTES ? this.#release() : undefined;
  }

  async commit(): Promise<number> {
    await this.#release();
    const place = this.#state.reserve(BASE_ARCHIVE, this.#bytes);
    this.#bytes = 0;
    this.#hasLock = false;
    this.#state.unlock();
    return place;
  }

  rollback(): boolean {
    // who has begun keeps the lock: nobody may write after half a member
    if (this.#hasLock) return false;
    this.#held = [];
    this.#heldBytes = 0;
    this.#bytes = 0;
    return true;
  }

  close(): void {
    this.#output.close();
  }

  async #release(): Promise<void> {
    if (!this.#hasLock) await this.#state.lock();
    this.#hasLock = true;
    const pieces = this.#held;
    this.#held = [];
    this.#heldBytes = 0;
    // oxlint-disable-next-line eslint/no-await-in-loop
    for (const piece of pieces) await this.#output.write(piece);
  }
}
