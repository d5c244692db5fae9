/* Which WAL segments a backup needs, from the names in pg_wal. */
import assert from 'node:assert/strict';
import test from 'node:test';
import { parseLsn, type Lsn } from '../../src/lsn.js';
import {
  firstMissingSegment,
  neededSegments,
  segmentNumbersOf,
  type BackupWal,
} from '../../src/pgdata/backup-wal.js';

const SEGMENT_BYTES = 16 * 1024 * 1024;

function wal(start: string, stop: string): BackupWal {
  return { startLsn: lsn(start), stopLsn: lsn(stop), segmentBytes: SEGMENT_BYTES };
}

function lsn(text: string): Lsn {
  return parseLsn(text) ?? assert.fail(text);
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
  assert.deepEqual(neededSegments(NAMES, wal('0/3000028', '0/5000100')), [
    '000000010000000000000003',
    '000000010000000000000004',
    '000000010000000000000005',
  ]);
});

test('an end on the boundary does not need the segment that begins there', () => {
  assert.deepEqual(neededSegments(NAMES, wal('0/4000028', '0/5000000')), ['000000010000000000000004']);
});

test('numbers run on over the 4 GB boundary', () => {
  assert.deepEqual(neededSegments(NAMES, wal('0/FF000028', '1/100')), [
    '0000000100000000000000FF',
    '000000010000000100000000',
  ]);
});

test('segments of all timelines in the range are taken, as BASE_BACKUP does', () => {
  const names = ['000000020000000000000004', '000000010000000000000004', '000000010000000000000003'];
  const needed = neededSegments(names, wal('0/3000028', '0/4000100'));
  assert.deepEqual(needed, [
    '000000010000000000000003',
    '000000010000000000000004',
    '000000020000000000000004',
  ]);
});

test('a gap is found, at the start, in the middle and at the end', () => {
  const range = wal('0/3000028', '0/5000100');
  const needed = neededSegments(NAMES, range);
  assert.equal(firstMissingSegment(segmentNumbersOf(needed, SEGMENT_BYTES), range), undefined);
  for (const [index, missing] of [3n, 4n, 5n].entries()) {
    const present = segmentNumbersOf(needed.toSpliced(index, 1), SEGMENT_BYTES);
    assert.equal(firstMissingSegment(present, range), missing);
  }
});
