import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { crc32c } from '@node-rs/crc32';
import { bulkCrc32c } from '../src/bulk-crc32c.js';

test('the CRC-32C of many bytes goes on where the faster code takes over', () => {
  const block = randomBytes(8 * 1024 ** 2 + 5);
  let found = 0;
  let expected = 0;
  for (let done = 0; done < 200 * 1024 ** 2; done += block.length) {
    found = bulkCrc32c(block, found);
    expected = crc32c(block, expected);
    assert.equal(found, expected, `after ${done + block.length} bytes`);
  }
  const { sharedObjects } = process.report.getReport() as unknown as { sharedObjects: string[] };
  assert.ok(
    sharedObjects.some((file) => file.includes('aws-crt')),
    'the faster code was found in its package',
  );
});
