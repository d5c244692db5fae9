/* Names are compared with pg_walfile_name of servers whose segments have that size. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { formatLsn, type Lsn } from '../../src/lsn.js';
import {
  historyFileName,
  isHistoryFileName,
  isWalSegmentName,
  lastSegmentNumberBefore,
  parseWalSegmentName,
  segmentNumberOf,
  walSegmentName,
} from '../../src/pgdata/wal-names.js';
import { sql, testServer } from '../support/postgres.js';
import { SeededRandom } from '../support/seeded-random.js';

const MiB = 1024 * 1024;
const END = 0xffff_ffff_ffff_ffffn;

/** Positions at and around the limits of segments and of the high half. */
function positions(segmentBytes: number): bigint[] {
  const segment = BigInt(segmentBytes);
  const edges = [1n, segment, 2n * segment, 2n ** 32n - segment, 2n ** 32n, 2n ** 40n, END - segment + 1n];
  const random = new SeededRandom(90);
  const anywhere = Array.from(
    { length: 200 },
    () => random.bytes(8).readBigUInt64BE() >> BigInt(random.below(60)),
  );
  const around = edges.flatMap((edge) => [edge - 1n, edge, edge + 1n]);
  // 0/0 is no position of a record, and 13 to 15 cannot name the segment before it
  return [...around, ...anywhere, END].filter((lsn) => lsn > 0n);
}

for (const [megabytes, major] of [
  [1, 13],
  [16, 15],
  [64, 18],
] as const) {
  test(`segments of ${megabytes} MiB are named as PostgreSQL ${major} names them`, async (t) => {
    const segmentBytes = megabytes * MiB;
    const server = await testServer(t, { major, initdbArguments: [`--wal-segsize=${megabytes}`] });
    const lsns = positions(segmentBytes);
    const rows = await sql<{ name: string }>(
      server,
      `select pg_walfile_name(lsn::pg_lsn) as name from unnest($1::text[]) with ordinality as l(lsn, n) order by n`,
      [lsns.map((lsn) => formatLsn(lsn as Lsn))],
    );
    // at the first byte of a segment, 17 and newer name that segment, older ones the one before
    const numberOf = major >= 17 ? segmentNumberOf : lastSegmentNumberBefore;
    const names = lsns.map((lsn) =>
      walSegmentName({ timeline: 1, segmentNumber: numberOf(lsn as Lsn, segmentBytes) }, segmentBytes),
    );
    assert.deepEqual(
      names,
      rows.map(({ name }) => name),
    );
  });
}

const NAMES: readonly (readonly [
  megabytes: number,
  timeline: number,
  segmentNumber: bigint,
  name: string,
])[] = [
  [1, 1, 0n, '000000010000000000000000'],
  [1, 1, 4095n, '000000010000000000000FFF'],
  [1, 1, 4096n, '000000010000000100000000'],
  [16, 1, 255n, '0000000100000000000000FF'],
  [16, 1, 256n, '000000010000000100000000'],
  [16, 4_294_967_295, 2n ** 40n - 1n, 'FFFFFFFFFFFFFFFF000000FF'],
  [64, 10, 63n, '0000000A000000000000003F'],
  [64, 10, 64n, '0000000A0000000100000000'],
  [1024, 1, 3n, '000000010000000000000003'],
  [1024, 1, 4n, '000000010000000100000000'],
  [1024, 1, 2n ** 34n - 1n, '00000001FFFFFFFF00000003'],
];

describe('names at the limits', () => {
  for (const [megabytes, timeline, segmentNumber, name] of NAMES) {
    test(`${name} with ${megabytes} MiB`, () => {
      assert.equal(walSegmentName({ timeline, segmentNumber }, megabytes * MiB), name);
      assert.deepEqual(parseWalSegmentName(name, megabytes * MiB), { timeline, segmentNumber });
      assert.ok(isWalSegmentName(name));
    });
  }

  test('every name is read as what it was made of', () => {
    const random = new SeededRandom(91);
    for (let round = 0; round < 5000; round += 1) {
      const segmentBytes = random.pick([1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024]) * MiB;
      const segmentNumber = random.bytes(8).readBigUInt64BE() / BigInt(segmentBytes);
      const segment = { timeline: 1 + random.below(4_294_967_295), segmentNumber };
      assert.deepEqual(parseWalSegmentName(walSegmentName(segment, segmentBytes), segmentBytes), segment);
    }
  });

  test('a segment number past those of this size is no name', () => {
    assert.equal(parseWalSegmentName('000000010000000000000100', 16 * MiB), undefined);
    assert.equal(parseWalSegmentName('000000010000000000001000', 1 * MiB), undefined);
    assert.equal(parseWalSegmentName('000000010000000000000004', 1024 * MiB), undefined);
  });
});

describe('what is no segment', () => {
  const others = [
    '',
    '00000001000000000000000',
    '0000000100000000000000000',
    '00000001000000000000000g',
    '00000001000000000000000a',
    ' 00000001000000000000001',
    '000000010000000000000001.partial',
    '000000010000000000000001.00000028.backup',
    '000000010000000000000001\n',
    '../000000010000000000000001',
  ];
  for (const name of others) {
    test(JSON.stringify(name), () => {
      assert.equal(isWalSegmentName(name), false);
      assert.equal(parseWalSegmentName(name, 16 * MiB), undefined);
    });
  }
});

describe('history files', () => {
  test('are named by their timeline', () => {
    assert.equal(historyFileName(2), '00000002.history');
    assert.equal(historyFileName(4_294_967_295), 'FFFFFFFF.history');
    assert.ok(isHistoryFileName('0000000A.history'));
  });
  for (const name of [
    '0000000a.history',
    '0000002.history',
    '00000002.history.partial',
    '00000002',
    'x/00000002.history',
  ]) {
    test(`${name} is none`, () => assert.equal(isHistoryFileName(name), false));
  }
});

describe('the segment of a position', () => {
  test('begins with its first byte and ends before the next one', () => {
    const bytes = 16 * MiB;
    assert.equal(segmentNumberOf(0x0100_0000n as Lsn, bytes), 1n);
    assert.equal(segmentNumberOf(0x00ff_ffffn as Lsn, bytes), 0n);
    assert.equal(lastSegmentNumberBefore(0x0100_0000n as Lsn, bytes), 0n);
    assert.equal(lastSegmentNumberBefore(0x0100_0001n as Lsn, bytes), 1n);
  });
});
