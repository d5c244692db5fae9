import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { crc32c } from '@node-rs/crc32';
import { combineCrc32c } from '../src/crc32c-combine.js';

test('the CRC of a whole comes out of its parts, whatever their lengths', () => {
  for (const [firstBytes, secondBytes] of [
    [0, 0],
    [0, 1],
    [1, 0],
    [1, 1],
    [8192, 3],
    [3, 8192],
    [1_000_003, 65_536],
    [70_001, 999_999],
  ] as const) {
    const first = randomBytes(firstBytes);
    const second = randomBytes(secondBytes);
    const whole = crc32c(Buffer.concat([first, second]));
    assert.equal(
      combineCrc32c(crc32c(first), crc32c(second), secondBytes),
      whole,
      `${firstBytes}+${secondBytes}`,
    );
  }
});

test('parts longer than 4 GiB are combined as if their zeros were there', () => {
  // appending zeros n+m at once or one after the other is the same
  const start = crc32c(Buffer.from('pgconvoy'));
  const once = combineCrc32c(start, 0, 5 * 2 ** 32 + 7);
  const twice = combineCrc32c(combineCrc32c(start, 0, 2 * 2 ** 32 + 3), 0, 3 * 2 ** 32 + 4);
  assert.equal(once, twice);
});
