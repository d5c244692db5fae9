/*
 * Watches the coordinator's session while files are copied and the session itself is idle, so that one that has silently
 * gone (or what else makes going on senseless) is noticed within seconds and not at the end. Used by both kinds of source.
 */
import { ConvoyError } from '../errors.js';

/** Asked this often, and answered within this: a loss is noticed within 9 s. */
const INTERVAL_MS = 4000;
const ANSWER_TIMEOUT_MS = 5000;

export interface WatchOptions {
  /** The server, as messages name it. */
  readonly server: string;
  /** Asks the server for a sign of life; an error returned, or thrown, ends the backup. */
  readonly ask: () => Promise<ConvoyError | undefined>;
}

export class SessionWatch {
  /** Resolves when the backup is lost. */
  readonly failed: Promise<ConvoyError>;
  readonly #options: WatchOptions;
  #timer: NodeJS.Timeout | undefined;
  #asking: Promise<void> = Promise.resolve();
  #fail: (reason: ConvoyError) => void = () => {};

  constructor(options: WatchOptions) {
    this.#options = options;
    this.failed = new Promise((resolve) => (this.#fail = resolve));
  }

  begin(): void {
    this.#timer = setInterval(() => {
      this.#asking = this.#ask();
    }, INTERVAL_MS);
  }

  /** No more questions; waits for the answer to the last one. */
  async end(): Promise<void> {
    this.stop();
    await this.#asking;
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  async #ask(): Promise<void> {
    const { server, ask } = this.#options;
    const silent = setTimeout(() => {
      const message = `lost connection to ${server}: no answer for ${ANSWER_TIMEOUT_MS / 1000} s`;
      this.#fail(new ConvoyError('connection_lost', message));
    }, ANSWER_TIMEOUT_MS);
    try {
      const reason = await ask();
      if (reason !== undefined) this.#fail(reason);
    } catch (error) {
      if (error instanceof ConvoyError) this.#fail(error);
    } finally {
      clearTimeout(silent);
    }
  }
}
