/*
 * Sends status updates in time, and notices a server that has fallen silent: an idle walsender that gets its updates says
 * nothing by itself, so it is asked for a sign of life. Used by wal-receiver.ts.
 */
import { ConvoyError } from '../errors.js';
import type { Clock } from '../clock.js';

/** A server that has said nothing for so long is asked ... */
const ASK_AFTER_MS = 2000;
/** ... and has so long for its answer: a loss is noticed within ten seconds. */
const ANSWER_LIMIT_MS = 7500;
const TICK_MS = 250;

export interface StreamWatchOptions {
  readonly clock: Clock;
  /** The server, as messages name it. */
  readonly server: string;
  /** 0: none but those that the server asks for. */
  readonly statusIntervalMs: number;
  /** @param wantsReply the server is to answer at once */
  readonly sendStatus: (wantsReply: boolean) => void;
  readonly onSilence: (reason: ConvoyError) => void;
}

export class StreamWatch {
  readonly #options: StreamWatchOptions;
  #endTicks: () => void = () => {};
  #lastReceivedMs = 0;
  #lastStatusMs = 0;
  #askedMs: number | undefined;
  #heldBack = 0;

  constructor(options: StreamWatchOptions) {
    this.#options = options;
  }

  /** The stream has begun. May be called again after `end`. */
  begin(): void {
    this.end();
    const { clock } = this.#options;
    this.#lastReceivedMs = clock.now();
    this.#lastStatusMs = clock.now();
    this.#askedMs = undefined;
    this.#endTicks = clock.every(TICK_MS, () => this.#tick());
  }

  end(): void {
    this.#endTicks();
    this.#endTicks = () => {};
  }

  /** Something has come. */
  received(): void {
    this.#lastReceivedMs = this.#options.clock.now();
    this.#askedMs = undefined;
  }

  /** Nothing is read from the server until this is settled. */
  holdBack(wait: Promise<void>): void {
    this.#heldBack += 1;
    void wait.finally(() => {
      this.#heldBack -= 1;
      this.received();
    });
  }

  /** A status update has been sent for another reason. */
  statusSent(): void {
    this.#lastStatusMs = this.#options.clock.now();
  }

  #tick(): void {
    const { clock, statusIntervalMs, sendStatus } = this.#options;
    const now = clock.now();
    const mayAsk = this.#askedMs === undefined && this.#heldBack === 0;
    if (mayAsk && now - this.#lastReceivedMs >= ASK_AFTER_MS) {
      this.#askedMs = now;
      sendStatus(true);
      return;
    }
    if (statusIntervalMs > 0 && now - this.#lastStatusMs >= statusIntervalMs) sendStatus(false);
    const asked = this.#askedMs;
    if (asked === undefined || this.#heldBack > 0 || now - asked < ANSWER_LIMIT_MS) return;
    // an answer that came while this process was busy, or stopped, is read first
    setImmediate(() => {
      if (this.#askedMs === asked) this.#giveUp();
    });
  }

  #giveUp(): void {
    this.end();
    const { server, onSilence } = this.#options;
    const message = `lost connection to ${server}: no answer for ${ANSWER_LIMIT_MS / 1000} s`;
    onSilence(new ConvoyError('connection_lost', message));
  }
}
