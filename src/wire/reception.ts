/*
 * When bytes came last over a connection, and whether this side was there to take them: a server that is held back is not
 * silent. Part of connection.ts.
 */
import type net from 'node:net';
import type { Clock } from '../clock.js';

export class Reception {
  readonly #clock: Clock;
  #lastMs = 0;
  /** Reading is paused on our side, for so many reasons. */
  #holds = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  noteReceived(): void {
    this.#lastMs = this.#clock.now();
  }

  /** By the clock; undefined while bytes are held back on this side. */
  get lastMs(): number | undefined {
    return this.#holds > 0 ? undefined : this.#lastMs;
  }

  /** Stops reading until `wait` is settled. What came in one read may wait side by side. */
  holdBack(stream: net.Socket, wait: Promise<void>): void {
    this.#holds += 1;
    stream.pause();
    void wait.finally(() => {
      this.#holds -= 1;
      if (this.#holds > 0) return;
      this.noteReceived();
      stream.resume();
    });
  }

  /**
   * From now on calls `onSilent`, again and again, while nothing has come for so long.
   *
   * @returns ends it
   */
  limitSilence(limitMs: number, onSilent: () => void): () => void {
    this.noteReceived();
    const isSilent = (): boolean => this.#holds === 0 && this.#clock.now() - this.#lastMs >= limitMs;
    const tellIfSilent = (): void => {
      if (isSilent()) onSilent();
    };
    // what came while this process was stopped is read first
    return this.#clock.every(limitMs / 4, () => (isSilent() ? setImmediate(tellIfSilent) : undefined));
  }
}
