/*
 * The way of a task's pieces to standard output: held up to a bound; when the task is complete, or outgrows the bound, its
 * thread takes the lock that all share, and keeps it until the task is complete. What has begun to leave cannot be taken
 * back.
 */
import { BASE_ARCHIVE } from './archive-layout.js';
import type { ArchiveState } from './archive-state.js';
import type { PieceOutlet } from './archive-stream.js';
import { bytesOf, PieceMemory } from './piece-memory.js';
import { StandardOutput } from './standard-output.js';

export class StandardOutputOutlet implements PieceOutlet {
  readonly #state: ArchiveState;
  readonly #output = new StandardOutput();
  readonly #held = new PieceMemory();
  /** Bytes since the last commit. */
  #bytes = 0;
  #hasLock = false;

  constructor(state: ArchiveState) {
    this.#state = state;
  }

  put(pieces: readonly Buffer[]): Promise<void> | undefined {
    this.#bytes += bytesOf(pieces);
    if (this.#hasLock || !this.#held.hasRoom(pieces)) return this.#pass(pieces);
    this.#held.add(pieces);
    return undefined;
  }

  async commit(): Promise<number> {
    await this.#release();
    const place = this.#state.reserve(BASE_ARCHIVE, this.#bytes);
    this.#bytes = 0;
    this.#hasLock = false;
    this.#state.unlock();
    return place;
  }

  settle(): Promise<void> {
    return Promise.resolve();
  }

  rollback(): boolean {
    // who has begun keeps the lock: nobody may write after half a member
    if (this.#hasLock) return false;
    this.#held.clear();
    this.#bytes = 0;
    return true;
  }

  close(): void {
    this.#output.close();
  }

  async #pass(pieces: readonly Buffer[]): Promise<void> {
    await this.#release();
    // oxlint-disable-next-line eslint/no-await-in-loop
    for (const piece of pieces) await this.#output.write(piece);
  }

  async #release(): Promise<void> {
    if (!this.#hasLock) await this.#state.lock();
    this.#hasLock = true;
    if (this.#held.bytes > 0) await this.#output.write(this.#held.content);
    this.#held.clear();
  }
}
