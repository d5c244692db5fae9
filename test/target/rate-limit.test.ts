/* The clock is the test's own: nothing here waits. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { once } from 'node:events';
import { createRateBudget, RateLimit } from '../../src/target/rate-limit.js';

const SECOND = 1_000_000_000n;
const KiB = 1024;

/** A clock in nanoseconds, moved by the test. */
class Clock {
  now = 1_000_000n * SECOND;

  readonly read = (): bigint => this.now;

  passMs(ms: number): void {
    this.now += BigInt(ms) * 1_000_000n;
  }
}

describe('one taker', () => {
  test('waits for what it takes, after a burst of an eighth of a second', () => {
    const clock = new Clock();
    const limit = new RateLimit(createRateBudget(), 1000 * KiB, clock.read);
    assert.equal(limit.take(125 * KiB), 0);
    assert.equal(limit.take(100 * KiB), 100);
    assert.equal(limit.take(100 * KiB), 200);
    clock.passMs(200);
    assert.equal(limit.take(100 * KiB), 100);
  });

  test('who keeps to the waits has the rate, exactly', () => {
    const clock = new Clock();
    const begin = clock.now;
    const limit = new RateLimit(createRateBudget(), 32 * KiB, clock.read);
    for (let chunk = 0; chunk < 1000; chunk += 1) clock.passMs(limit.take(8 * KiB));
    const seconds = Number(clock.now - begin) / 1e9;
    assert.ok(Math.abs(seconds - (1000 * 8) / 32) < 0.2, `${seconds} s`);
  });

  test('a pause is not saved up', () => {
    const clock = new Clock();
    const limit = new RateLimit(createRateBudget(), 1000 * KiB, clock.read);
    limit.take(1);
    clock.passMs(3_600_000);
    assert.equal(limit.take(125 * KiB), 0);
    assert.equal(limit.take(1000 * KiB), 1000);
  });

  test('the lowest and the highest rate, and chunks of any size', () => {
    const clock = new Clock();
    assert.equal(new RateLimit(createRateBudget(), 32 * KiB, clock.read).take(512 * KiB), 16_000 - 125);
    const fast = new RateLimit(createRateBudget(), 1024 * 1024 * KiB, clock.read);
    assert.equal(fast.take(0), 0);
    assert.equal(fast.take(1), 0);
    assert.equal(fast.take(2 ** 30), 1000 - 125);
  });
});

describe('several takers', () => {
  test('share one budget', () => {
    const clock = new Clock();
    const begin = clock.now;
    const budget = createRateBudget();
    const limits = [1, 2, 3, 4].map(() => new RateLimit(budget, 1000 * KiB, clock.read));
    // each taker sleeps on its own; the one that wakes first takes next
    const wakes = limits.map(() => begin);
    let taken = 0;
    while (taken < 4000 * KiB) {
      const next = wakes.indexOf(wakes.reduce((least, at) => (at < least ? at : least)));
      clock.now = wakes[next] ?? begin;
      wakes[next] = clock.now + BigInt(limits[next]?.take(10 * KiB) ?? 0) * 1_000_000n;
      taken += 10 * KiB;
    }
    const seconds = Number(clock.now - begin) / 1e9;
    assert.ok(seconds > 3.6 && seconds < 4.1, `${seconds} s for 4 s of data`);
  });

  test('what one no longer takes goes to the others', () => {
    const clock = new Clock();
    const budget = createRateBudget();
    const [one, other] = [
      new RateLimit(budget, 1000 * KiB, clock.read),
      new RateLimit(budget, 1000 * KiB, clock.read),
    ];
    one.take(125 * KiB);
    assert.equal(one.take(100 * KiB), 100);
    assert.equal(other.take(100 * KiB), 200);
    // the first has finished; the other has all of the rate from now on
    clock.passMs(200);
    for (let round = 0; round < 10; round += 1) {
      const wait = other.take(100 * KiB);
      assert.equal(wait, 100);
      clock.passMs(wait);
    }
  });

  test('nothing is lost between threads that take at once', async () => {
    const budget = createRateBudget();
    const module = new URL('../../src/target/rate-limit.js', import.meta.url).href;
    const code = `
      const { workerData } = require('node:worker_threads');
      import(${JSON.stringify(module)}).then(({ RateLimit }) => {
        const limit = new RateLimit(workerData, 1024, () => 1000000000n);
        for (let round = 0; round < 20000; round += 1) limit.take(1024);
      });`;
    const threads = [1, 2, 3].map(() => new Worker(code, { eval: true, workerData: budget }));
    await Promise.all(threads.map((thread) => once(thread, 'exit')));
    // 60000 seconds' worth was taken, from an eighth of a second before the clock's one second on
    const paidUntil = new BigInt64Array(budget)[0];
    assert.equal(paidUntil, 60_001n * SECOND - SECOND / 8n);
  });
});
