/* What `serve` says of WAL that a backup needs and that is gone, with the server's own words. */
import assert from 'node:assert/strict';
import test from 'node:test';
import type { Lsn } from '../../src/lsn.js';
import { segmentsToSend } from '../../src/server/wal-files.js';

const SEGMENT_BYTES = 16 * 1024 * 1024;

test('the first segment that is missing is named, on the timeline of the end', () => {
  const names = ['000000010000000000000003', '000000010000000000000004', '000000010000000000000006'];
  const start = { lsn: 0x3000028n as Lsn, timeline: 1 };
  assert.deepEqual(
    segmentsToSend(names, start, { lsn: 0x4000100n as Lsn, timeline: 1 }, SEGMENT_BYTES),
    names.slice(0, 2),
  );
  assert.throws(() => segmentsToSend(names, start, { lsn: 0x7000100n as Lsn, timeline: 2 }, SEGMENT_BYTES), {
    code: 'wal_missing',
    message: 'could not find WAL file "000000020000000000000005"',
  });
});
