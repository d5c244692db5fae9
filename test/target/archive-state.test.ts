/* Turns at writing to an archive, over threads. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { ArchiveState, createArchiveState } from '../../src/target/archive-state.js';

const MODULE = new URL('../../src/target/archive-state.js', import.meta.url).href;

/** Runs `code` in a thread that has `state`, of two archives, and `shared`, Int32s. */
function thread(memory: SharedArrayBuffer, shared: Int32Array, code: string): Worker {
  const text = `
    const { workerData: { memory, shared } } = require('node:worker_threads');
    import(${JSON.stringify(MODULE)}).then(({ ArchiveState }) => {
      const state = new ArchiveState(memory, 2);
      ${code}
    });`;
  return new Worker(text, { eval: true, workerData: { memory, shared } });
}

const sharedWords = (): Int32Array => new Int32Array(new SharedArrayBuffer(16));

test('one thread at a time writes to an archive', async () => {
  const memory = createArchiveState(2, 0);
  const shared = sharedWords();
  const code = `
    for (let turn = 0; turn < 2000; turn += 1) {
      state.writeAlone(1, () => {
        if (Atomics.add(shared, 0, 1) !== 0) Atomics.add(shared, 1, 1);
        for (let spin = 0; spin < 500; spin += 1) Atomics.load(shared, 3);
        Atomics.sub(shared, 0, 1);
        Atomics.add(shared, 2, 1);
      });
    }`;
  const threads = [1, 2, 3].map(() => thread(memory, shared, code));
  await Promise.all(threads.map((one) => once(one, 'exit')));
  const [, met, turns] = shared;
  assert.deepEqual({ met, turns }, { met: 0, turns: 6000 });
});

test('a failed write ends its turn, and another archive has turns of its own', () => {
  const state = new ArchiveState(createArchiveState(2, 0), 2);
  const done: string[] = [];
  const fail = (): void => {
    state.writeAlone(1, () => done.push('other archive'));
    throw new Error('no space');
  };
  assert.throws(() => state.writeAlone(0, fail), /no space/);
  state.writeAlone(0, () => done.push('same archive'));
  assert.deepEqual(done, ['other archive', 'same archive']);
});

test('a thread that ended while it wrote keeps nobody from writing', async () => {
  const memory = createArchiveState(2, 0);
  const shared = sharedWords();
  const dying = thread(memory, shared, 'state.writeAlone(0, () => process.exit());');
  await once(dying, 'exit');
  let isWritten = false;
  new ArchiveState(memory, 2).writeAlone(0, () => (isWritten = true));
  assert.ok(isWritten);
});
