/* A clock that a test moves on by hand. */
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Clock } from '../../src/clock.js';

export class ManualClock implements Clock {
  #nowMs = 0;
  readonly #ticks = new Set<{ readonly intervalMs: number; readonly tick: () => void; dueMs: number }>();

  now(): number {
    return this.#nowMs;
  }

  every(intervalMs: number, tick: () => void): () => void {
    const entry = { intervalMs, tick, dueMs: this.#nowMs + intervalMs };
    this.#ticks.add(entry);
    return () => void this.#ticks.delete(entry);
  }

  /** Who still waits for a tick. */
  get waiting(): number {
    return this.#ticks.size;
  }

  /** Moves on, tick by tick, and gives what is under way a turn after each. */
  async advance(milliseconds: number): Promise<void> {
    const end = this.#nowMs + milliseconds;
    for (;;) {
      const [next] = [...this.#ticks].toSorted((a, b) => a.dueMs - b.dueMs);
      if (next === undefined || next.dueMs > end) break;
      this.#nowMs = next.dueMs;
      next.dueMs += next.intervalMs;
      next.tick();
      await nextTurn();
    }
    this.#nowMs = end;
  }
}
