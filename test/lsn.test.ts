/* Expected texts are PostgreSQL's: `select '...'::pg_lsn - '0/0', '...'::pg_lsn`. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatLsn, INVALID_LSN, parseLsn, type Lsn } from '../src/lsn.js';
import { SeededRandom } from './support/seeded-random.js';

const POSITIONS: readonly (readonly [text: string, value: bigint, printed: string])[] = [
  ['0/0', 0n, '0/0'],
  ['0/1', 1n, '0/1'],
  ['16/B374D848', 97500059720n, '16/B374D848'],
  ['16/b374d848', 97500059720n, '16/B374D848'],
  ['00000000/00000028', 40n, '0/28'],
  ['0/FFFFFFFF', 4294967295n, '0/FFFFFFFF'],
  ['1/0', 4294967296n, '1/0'],
  ['FFFFFFFF/FFFFFFFF', 18446744073709551615n, 'FFFFFFFF/FFFFFFFF'],
];

for (const [text, value, printed] of POSITIONS) {
  test(`"${text}" is position ${value}, printed as ${printed}`, () => {
    const lsn = parseLsn(text);
    assert.equal(lsn, value);
    assert.equal(formatLsn(value as Lsn), printed);
  });
}

const NO_POSITIONS = [
  '',
  '/',
  '0',
  '0/',
  '/0',
  '0/0/0',
  ' 0/0',
  '0/0 ',
  '0/0\n',
  '-1/0',
  '0x1/0',
  'G/0',
  '123456789/0',
  '0/123456789',
  '16-B374D848',
];

for (const text of NO_POSITIONS) {
  test(`${JSON.stringify(text)} is no position`, () => {
    assert.equal(parseLsn(text), undefined);
  });
}

test('a position is the same after it was printed and read again', () => {
  assert.equal(formatLsn(INVALID_LSN), '0/0');
  const random = new SeededRandom(1);
  for (let round = 0; round < 5000; round += 1) {
    const lsn = random.bytes(8).readBigUInt64BE() >> BigInt(random.below(64));
    assert.equal(parseLsn(formatLsn(lsn as Lsn)), lsn);
  }
});
