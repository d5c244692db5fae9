import assert from 'node:assert/strict';
import { test } from 'node:test';
import { retryDelayMs } from '../../src/coordinator/worker-pool.js';

test('the first repetition follows at once, the others after a time that doubles up to 10 s', () => {
  const delays = Array.from({ length: 9 }, (_, retry) => retryDelayMs(retry));
  assert.deepEqual(delays, [0, 500, 1000, 2000, 4000, 8000, 10_000, 10_000, 10_000]);
  assert.equal(retryDelayMs(999), 10_000);
});
