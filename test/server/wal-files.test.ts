/* Which WAL segments a backup needs, from the names in pg_wal. */
import assert from 'node:assert/strict';
import test from 'node:test';
import { parseLsn, type Lsn } from '../../src/lsn.js';
import { neededSegments } from '../../src/server/wal-files.js';

const SEGMENT_BYTES = 16 * 1024 * 1024;

function at(text: string, timeline = 1): { lsn: Lsn; timeline: number } {
  const lsn = parseLsn(text);
  assert.ok(lsn !== undefined);
  return { lsn, timeline };
}

const NAMES = [
  '000000010000000000000005',
  '000000010000000000000003',
  '000000010000000000000004',
  '0000000100000000000000FF',
  '000000010000000100000000',
  '000000010000000000000003.00000028.backup',
  '000000010000000000000006.partial',
  '00000002.history',
  'archive_status',
] as const;

test('segments from the one with the start to the one with the last byte, in order', () => {
  assert.deepEqual(neededSegments(NAMES, at('0/3000028'), at('0/5000100'), SEGMENT_BYTES), [
    '000000010000000000000003',
    '000000010000000000000004',
    '000000010000000000000005',
  ]);
});

test('an end on the boundary does not need the segment that begins there', () => {
  assert.deepEqual(neededSegments(NAMES, at('0/4000028'), at('0/5000000'), SEGMENT_BYTES), [
    '000000010000000000000004',
  ]);
});

test('numbers run on over the 4 GB boundary', () => {
  assert.deepEqual(neededSegments(NAMES, at('0/FF000028'), at('1/100'), SEGMENT_BYTES), [
    '0000000100000000000000FF',
    '000000010000000100000000',
  ]);
});

test('segments of all timelines in the range are taken, as BASE_BACKUP does', () => {
  const names = ['000000020000000000000004', '000000010000000000000004', '000000010000000000000003'];
  const needed = neededSegments(names, at('0/3000028'), at('0/4000100', 2), SEGMENT_BYTES);
  assert.equal(needed[0], '000000010000000000000003');
  assert.deepEqual(needed.slice(1).toSorted(), ['000000010000000000000004', '000000020000000000000004']);
});

test('a gap is named, at the start, in the middle and at the end', () => {
  for (const missing of [
    '000000010000000000000003',
    '000000010000000000000004',
    '000000010000000000000005',
  ]) {
    const names = NAMES.filter((name) => name !== missing);
    assert.throws(() => neededSegments(names, at('0/3000028'), at('0/5000100'), SEGMENT_BYTES), {
      code: 'wal_missing',
      message: `could not find WAL file "${missing}"`,
    });
  }
});
