import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { ProgressCounters } from '../src/progress-counters.js';

test('counts are kept, past 2^32 too, and taken back', () => {
  const counters = new ProgressCounters();
  assert.deepEqual(counters.read(), { bytes: 0, files: 0 });
  counters.add(2 ** 45, 0);
  counters.add(5, 2);
  assert.deepEqual(counters.read(), { bytes: 2 ** 45 + 5, files: 2 });
  counters.add(-5, -2);
  assert.deepEqual(counters.read(), { bytes: 2 ** 45, files: 0 });
});

test('threads that share the memory count together', async () => {
  const counters = new ProgressCounters();
  const module = new URL('../src/progress-counters.js', import.meta.url).href;
  const code = `
    const { workerData } = require('node:worker_threads');
    import(${JSON.stringify(module)}).then(({ ProgressCounters }) => {
      const counters = new ProgressCounters(workerData);
      for (let round = 0; round < 20000; round += 1) counters.add(3, 1);
    });`;
  const threads = [1, 2, 3].map(() => new Worker(code, { eval: true, workerData: counters.memory }));
  await Promise.all(threads.map((thread) => once(thread, 'exit')));
  assert.deepEqual(counters.read(), { bytes: 180_000, files: 60_000 });
});
