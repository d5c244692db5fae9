/*
 * When the threads of a pool have started. A thread that is terminated while it still loads its modules can take the whole
 * process down (seen with Node.js 20: "IsGraphAsync must be used on an instantiated module"), so whoever ends a pool
 * waits for this first. The pool itself does not know: it takes its first threads for ready when it makes them.
 */
import { setTimeout as delay } from 'node:timers/promises';

const POLL_MS = 5;
/** Far longer than hundreds of threads take to start on a busy machine. */
const START_LIMIT_MS = 60_000;

/** Part of what a thread is given when it starts. */
export interface ThreadStart {
  /** An Int32: how many threads have loaded all they need. */
  readonly startedThreads: SharedArrayBuffer;
}

/** To be called by the entry point of a thread, behind its imports. */
export function noteThreadStarted({ startedThreads }: ThreadStart): void {
  Atomics.add(new Int32Array(startedThreads), 0, 1);
}

/** The pool's side. */
export class ThreadStarts implements ThreadStart {
  readonly startedThreads = new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT);
  readonly #threads: number;
  #hasFailed = false;

  constructor(threads: number) {
    this.#threads = threads;
  }

  /** A thread could not start: nobody waits for it. */
  fail(): void {
    this.#hasFailed = true;
  }

  /** All have started, or one of them has failed. */
  async settled(): Promise<void> {
    const endMs = performance.now() + START_LIMIT_MS;
    const started = new Int32Array(this.startedThreads);
    while (!this.#hasFailed && Atomics.load(started, 0) < this.#threads && performance.now() < endMs) {
      // oxlint-disable-next-line eslint/no-await-in-loop
      await delay(POLL_MS);
    }
  }
}
