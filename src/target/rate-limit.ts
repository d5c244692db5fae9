/*
 * One transfer rate for the whole backup, shared by all threads: each takes its bytes' time from a common clock, so
 * what a worker that has finished no longer uses goes to the others. Bytes in, milliseconds to wait out.
 * (PostgreSQL's basebackup_throttle.c limits the one connection that it has.)
 */

/** Shared memory; structured clone hands it to the worker threads. */
export type RateBudget = SharedArrayBuffer;

const NANOSECONDS_PER_SECOND = 1_000_000_000n;
/** Unused time is not saved up beyond this: PostgreSQL measures in eighths of a second. */
const MAX_BURST_NANOSECONDS = NANOSECONDS_PER_SECOND / 8n;

export function createRateBudget(): RateBudget {
  return new SharedArrayBuffer(BigInt64Array.BYTES_PER_ELEMENT);
}

export class RateLimit {
  /** The time at which all that was taken so far is paid for. */
  readonly #paidUntil: BigInt64Array;
  readonly #bytesPerSecond: bigint;
  readonly #now: () => bigint;

  /** @param now monotonic nanoseconds, the same clock in all threads */
  constructor(budget: RateBudget, bytesPerSecond: number, now: () => bigint = () => process.hrtime.bigint()) {
    this.#paidUntil = new BigInt64Array(budget);
    this.#bytesPerSecond = BigInt(bytesPerSecond);
    this.#now = now;
  }

  /** Takes `bytes` from the budget. @returns milliseconds to wait before more is read, 0 for none */
  take(bytes: number): number {
    const cost = (BigInt(bytes) * NANOSECONDS_PER_SECOND) / this.#bytesPerSecond;
    const now = this.#now();
    for (;;) {
      const paid = Atomics.load(this.#paidUntil, 0);
      const begin = paid > now - MAX_BURST_NANOSECONDS ? paid : now - MAX_BURST_NANOSECONDS;
      const end = begin + cost;
      if (Atomics.compareExchange(this.#paidUntil, 0, paid, end) === paid) {
        return end <= now ? 0 : Number((end - now) / 1_000_000n);
      }
    }
  }
}
