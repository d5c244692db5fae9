/*
 * MAX_RATE: keeps one command's sending below a rate. Each command counts anew, as setup_throttle of the patch does.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { PAGE_BYTES } from '../limits.js';

/** basebackup.c paces in eighths of a second (THROTTLING_FREQUENCY). */
const STEPS_PER_SECOND = 8;

export class TransferRate {
  readonly #bytesPerSecond: number;
  readonly #start = performance.now();
  #bytes = 0;

  /** @param kilobytesPerSecond undefined: without a limit */
  constructor(kilobytesPerSecond: number | undefined) {
    this.#bytesPerSecond = kilobytesPerSecond === undefined ? Infinity : kilobytesPerSecond * 1024;
  }

  /** The largest chunk, in whole pages, that keeps the sending even. */
  chunkBytes(bufferBytes: number): number {
    const stepBytes = this.#bytesPerSecond / STEPS_PER_SECOND;
    if (stepBytes >= bufferBytes) return bufferBytes;
    return Math.max(PAGE_BYTES, stepBytes - (stepBytes % PAGE_BYTES));
  }

  /** Waits until so many more bytes may have been sent. @throws the signal's reason */
  async spend(bytes: number, signal: AbortSignal): Promise<void> {
    this.#bytes += bytes;
    const dueMs = this.#start + (this.#bytes / this.#bytesPerSecond) * 1000;
    const waitMs = dueMs - performance.now();
    if (waitMs > 0) await delay(waitMs, undefined, { signal }).catch(() => {});
    signal.throwIfAborted();
  }
}
