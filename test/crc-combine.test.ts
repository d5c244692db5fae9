import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { crc32, crc32c } from '@node-rs/crc32';
import { CRC32, CRC32C } from '../src/crc-combine.js';

for (const [name, combination, crc] of [
  ['CRC-32C', CRC32C, (bytes: Buffer) => crc32c(bytes)],
  ['CRC-32', CRC32, (bytes: Buffer) => crc32(bytes)],
] as const) {
  test(`the ${name} of a whole comes out of its parts, whatever their lengths`, () => {
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
      const combined = combination.combine(crc(first), crc(second), secondBytes);
      assert.equal(combined, crc(Buffer.concat([first, second])), `${firstBytes}+${secondBytes}`);
    }
  });

  test(`parts longer than 4 GiB are combined as if their zeros were there: ${name}`, () => {
    // appending zeros n+m at once or one after the other is the same
    const start = crc(Buffer.from('pgconvoy'));
    const once = combination.combine(start, 0, 5 * 2 ** 32 + 7);
    const twice = combination.combine(combination.combine(start, 0, 2 * 2 ** 32 + 3), 0, 3 * 2 ** 32 + 4);
    assert.equal(once, twice);
  });
}
