/*
 * Asks a server again and again for a sign of life while a backup runs, so that one that has silently gone (or what else
 * makes going on senseless) is noticed within seconds and not at the end. Used by both kinds of source, and by `serve`.
 */
import { asConvoyError, ConvoyError } from './errors.js';

/** From an answer to the next question. */
const INTERVAL_MS = 2000;

export interface WatchOptions {
  /** The server, as messages name it. */
  readonly server: string;
  /** An answer that has not come by then is taken for a loss; with the interval, the time to notice one. */
  readonly answerLimitMs: number;
  /** Asks the server for a sign of life; an error returned, or thrown, ends the backup. */
  readonly ask: () => Promise<ConvoyError | undefined>;
}

export class SessionWatch {
  /** Resolves when the backup is lost. */
  readonly failed: Promise<ConvoyError>;
  readonly #options: WatchOptions;
  #timer: NodeJS.Timeout | undefined;
  #asking: Promise<void> = Promise.resolve();
  #isOver = false;
  #fail: (reason: ConvoyError) => void = () => {};

  constructor(options: WatchOptions) {
    this.#options = options;
    this.failed = new Promise((resolve) => (this.#fail = resolve));
  }

  /** The first question is asked at once. */
  begin(): void {
    this.#asking = this.#askAndGoOn();
  }

  /** No more questions; waits for the answer to the last one. */
  async end(): Promise<void> {
    this.stop();
    await this.#asking;
  }

  stop(): void {
    this.#isOver = true;
    clearTimeout(this.#timer);
  }

  async #askAndGoOn(): Promise<void> {
    const mayGoOn = await this.#ask();
    if (mayGoOn && !this.#isOver) this.#timer = setTimeout(() => this.begin(), INTERVAL_MS);
  }

  /** @returns false where the backup is lost */
  async #ask(): Promise<boolean> {
    const { server, ask, answerLimitMs } = this.#options;
    let isAnswered = false;
    const silent = setTimeout(() => {
      // an answer that came while this process was stopped is read first
      setImmediate(() => {
        if (isAnswered) return;
        const message = `lost connection to ${server}: no answer for ${answerLimitMs / 1000} s`;
        this.#fail(new ConvoyError('connection_lost', message));
      });
    }, answerLimitMs);
    try {
      const reason = await ask();
      if (reason !== undefined) this.#fail(reason);
      return reason === undefined;
    } catch (error) {
      this.#fail(asConvoyError(error, 'connection_lost'));
      return false;
    } finally {
      isAnswered = true;
      clearTimeout(silent);
    }
  }
}
