/* Rows are those of PROTOCOL, "Message flow" and "The file list", as the patched server sent them. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { ConvoyError } from '../../src/errors.js';
import type { Lsn } from '../../src/lsn.js';
import {
  decodeLabel,
  decodeListedFile,
  decodePosition,
  decodeTablespace,
  encodeLabel,
  encodeListedFile,
  encodePosition,
  encodeTablespace,
  type ListedFile,
  type TextRow,
} from '../../src/replication/result-sets.js';
import { SeededRandom } from '../support/seeded-random.js';

const LABEL_TEXT = 'START WAL LOCATION: 0/2000028 (file 000000010000000000000002)\nLABEL: x\n';

describe('rows as values, and back', () => {
  const position = { lsn: 0x16_b374_d848n as Lsn, timeline: 4_294_967_295 };
  test('a position', () => {
    assert.deepEqual(decodePosition(['16/B374D848', '4294967295']), position);
    assert.deepEqual(encodePosition(position), ['16/B374D848', '4294967295']);
  });

  const tablespaces: readonly (readonly [row: TextRow, value: object])[] = [
    [['16384', '/srv/ts1', '3345'], { oid: 16384, location: '/srv/ts1', sizeKilobytes: 3345 }],
    [['4294967295', '/', null], { oid: 4_294_967_295, location: '/', sizeKilobytes: undefined }],
    [
      [null, null, '9007199254740991'],
      { oid: undefined, location: undefined, sizeKilobytes: 9_007_199_254_740_991 },
    ],
    [[null, null, null], { oid: undefined, location: undefined, sizeKilobytes: undefined }],
  ];
  for (const [row, value] of tablespaces) {
    test(`a tablespace ${JSON.stringify(row)}`, () => {
      assert.deepEqual(decodeTablespace(row), value);
      assert.deepEqual(encodeTablespace(decodeTablespace(row)), row);
    });
  }

  const labels: readonly TextRow[] = [
    [LABEL_TEXT, null],
    [LABEL_TEXT, '16384 /srv/ts1\n'],
    ['', ''],
  ];
  for (const row of labels) {
    test(`a label ${JSON.stringify(row)}`, () => {
      assert.deepEqual(decodeLabel(row), { label: row[0], tablespaceMap: row[1] ?? undefined });
      assert.deepEqual(encodeLabel(decodeLabel(row)), row);
    });
  }

  const files: readonly (readonly [row: TextRow, value: ListedFile])[] = [
    [
      ['/srv/ts1/PG_12_201909212', 'd', '-1', '1581496327'],
      file('/srv/ts1/PG_12_201909212', 'directory', -1, 1_581_496_327),
    ],
    [['./base/1/112', 'f', '8192', '1581496327'], file('./base/1/112', 'file', 8192, 1_581_496_327)],
    [['./pg_tblspc/16384', 'l', '16', '0'], file('./pg_tblspc/16384', 'link', 16, 0)],
    [['./base/1/3g', 'f', '-1073741824', '-1'], file('./base/1/3g', 'file', -1_073_741_824, -1)],
    [['./new\nline', 'f', '9007199254740991', '1'], file('./new\nline', 'file', Number.MAX_SAFE_INTEGER, 1)],
  ];
  for (const [row, value] of files) {
    test(`a file ${JSON.stringify(row)}`, () => {
      assert.deepEqual(decodeListedFile(row), value);
      assert.deepEqual(encodeListedFile(value), row);
    });
  }

  test('random files', () => {
    const random = new SeededRandom(70);
    for (let round = 0; round < 2000; round += 1) {
      const value: ListedFile = {
        path: random.text(['/', '.', 'a', 'ü', '\n', "'", '\\'], 100),
        type: random.pick(['file', 'directory', 'link']),
        size: random.below(2 ** 53) - 2,
        mtime: random.below(2 ** 33),
      };
      assert.deepEqual(decodeListedFile(encodeListedFile(value)), value);
    }
  });
});

function file(path: string, type: ListedFile['type'], size: number, mtime: number): ListedFile {
  return { path, type, size, mtime };
}

const LONG = 'x'.repeat(1025);
const BAD: readonly (readonly [decode: (row: TextRow) => unknown, rows: readonly TextRow[]])[] = [
  [
    decodePosition,
    [
      [],
      ['0/1'],
      ['0/1', '1', '1'],
      [null, '1'],
      ['0/1', null],
      ['garbage', '1'],
      ['0/1', '0'],
      ['0/1', '-1'],
      ['0/1', '4294967296'],
      ['0/1', '1.5'],
      ['0/1', '1e1'],
      ['0/1', '0x1'],
      ['0/1', ' 1'],
      ['0/1', ''],
    ],
  ],
  [
    decodeTablespace,
    [
      ['16384', '/srv'],
      ['16384', null, null],
      [null, '/srv', null],
      ['0', '/srv', null],
      ['-1', '/srv', null],
      ['4294967296', '/srv', null],
      ['x', '/srv', null],
      ['16384', LONG, null],
      ['16384', 'ü'.repeat(513), null],
      [null, null, '9007199254740992'],
      [null, null, 'many'],
    ],
  ],
  [decodeLabel, [['x'], [null, null], ['x'.repeat(1024 * 1024 + 1), null], ['x', null, null]]],
  [
    decodeListedFile,
    [
      [null, 'f', '1', '1'],
      ['./a', null, '1', '1'],
      ['./a', 'f', null, '1'],
      ['./a', 'f', '1', null],
      ['./a', 'f', '1'],
      ['./a', 'f', '1', '1', '1'],
      ['./a', 'p', '1', '1'],
      ['./a', 'F', '1', '1'],
      ['./a', 'ff', '1', '1'],
      ['./a', '', '1', '1'],
      ['./a', 'f', '', '1'],
      ['./a', 'f', '1.0', '1'],
      ['./a', 'f', 'NaN', '1'],
      ['./a', 'f', 'Infinity', '1'],
      ['./a', 'f', '9007199254740993', '1'],
      ['./a', 'f', '-9007199254740993', '1'],
      ['./a', 'f', '1', '99999999999999999999'],
      [LONG, 'f', '1', '1'],
    ],
  ],
];

for (const [decode, rows] of BAD) {
  describe(`${decode.name} refuses`, () => {
    for (const row of rows) {
      test(JSON.stringify(row).slice(0, 80), () => {
        assert.throws(
          () => decode(row),
          (error) => {
            assert.ok(error instanceof ConvoyError, String(error));
            assert.equal(error.code, 'untrusted_peer');
            assert.ok(error.message.length < 500, 'a hostile row is not shown whole');
            return true;
          },
        );
      });
    }
  });
}
