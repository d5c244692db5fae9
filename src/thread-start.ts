/*
 * When the threads of a pool have started. A thread that is terminated while it still loads its modules can take the whole
 * process down (seen with Node.js 20: "IsGraphAsync must be used on an instantiated module"), so whoever ends a pool
 * waits for this first.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { Piscina } from 'piscina';

/** Longer than threads take to start on a busy machine; one that fails to start is never ready. */
const START_LIMIT_MS = 5000;

/** To be called when the pool has just been made, of `threads` threads from the start. */
export function threadsStarted(pool: Piscina<never, unknown>, threads: number): () => Promise<void> {
  let missing = threads;
  const started = new Promise<void>((resolve) => {
    pool.on('workerCreate', () => {
      missing -= 1;
      if (missing === 0) resolve();
    });
  });
  return () => Promise.race([started, delay(START_LIMIT_MS, undefined, { ref: false })]);
}
