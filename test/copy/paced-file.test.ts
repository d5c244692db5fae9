import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PacedFileCopy, type CopyTools } from '../../src/copy/paced-file.js';
import { ProgressCounters } from '../../src/progress-counters.js';
import { Blackhole } from '../../src/target/blackhole.js';
import { createRateBudget, RateLimit } from '../../src/target/rate-limit.js';

const FILE = { path: 'x', size: 2000, mode: 0o600, mtime: 0 };

function toolsWith(bytesPerSecond: number): CopyTools {
  return {
    target: new Blackhole(),
    algorithm: 'NONE',
    rate: new RateLimit(createRateBudget(), bytesPerSecond),
    progress: new ProgressCounters(),
  };
}

test('a pause ends by itself', async () => {
  const copy = new PacedFileCopy(toolsWith(10_000));
  copy.begin(FILE);
  const wait = copy.data(Buffer.alloc(2000));
  assert.ok(wait !== undefined);
  await wait;
  assert.equal(copy.end().size, 2000);
});

test('pauses of hours end at once when the copy is given up', { timeout: 10_000 }, async () => {
  const copy = new PacedFileCopy(toolsWith(1));
  copy.begin(FILE);
  const waits = [copy.data(Buffer.alloc(1000)), copy.data(Buffer.alloc(1000))];
  assert.ok(waits.every((wait) => wait !== undefined));
  copy.abandon();
  await Promise.all(waits);
});
