/* The time that waits and silences go by: the system's, or one that a test moves on by hand. */

export interface Clock {
  /** Monotonic milliseconds. */
  now(): number;
  /** Calls `tick` again and again. @returns ends it */
  every(intervalMs: number, tick: () => void): () => void;
}

export const SYSTEM_CLOCK: Clock = {
  now: () => performance.now(),
  every: (intervalMs, tick) => {
    const timer = setInterval(tick, intervalMs);
    return () => clearInterval(timer);
  },
};
