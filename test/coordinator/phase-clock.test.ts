import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PhaseClock } from '../../src/coordinator/phase-clock.js';

test('phases are told as they begin, and timed', async () => {
  let nowMs = 1000;
  const told: string[] = [];
  const clock = new PhaseClock(
    (phase) => told.push(phase),
    () => nowMs,
  );
  const result = await clock.time('open', () => {
    assert.deepEqual(told, ['open']);
    nowMs += 250;
    return Promise.resolve('opened');
  });
  assert.equal(result, 'opened');
  const failure = new Error('no');
  await assert.rejects(
    clock.time('copy', () => {
      nowMs += 2000;
      return Promise.reject(failure);
    }),
    failure,
  );
  assert.deepEqual(clock.figures({ copy: 5 }), [
    { phase: 'open', seconds: 0.25 },
    { phase: 'copy', seconds: 2, bytes: 5 },
  ]);
  assert.deepEqual(told, ['open', 'copy']);
});
