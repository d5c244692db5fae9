import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { TablespaceRow } from '../../src/replication/result-sets.js';
import { checkHeader } from '../../src/source/listed-tablespaces.js';

const MAIN: TablespaceRow = { oid: undefined, location: undefined, sizeKilobytes: undefined };

function space(oid: number, location: string): TablespaceRow {
  return { oid, location, sizeKilobytes: 1 };
}

test('a header of the data directory alone', () => {
  assert.deepEqual(checkHeader([MAIN]), []);
});

test('a header with tablespaces keeps their order', () => {
  assert.deepEqual(checkHeader([space(16385, '/srv/b'), space(16384, '/srv/a b/..c'), MAIN]), [
    { oid: 16385, location: '/srv/b' },
    { oid: 16384, location: '/srv/a b/..c' },
  ]);
});

const REFUSED: readonly (readonly [name: string, rows: readonly TablespaceRow[], said: RegExp])[] = [
  ['no rows', [], /no data directory/],
  ['no data directory', [space(16384, '/srv/a')], /no data directory/],
  ['the data directory first', [MAIN, space(16384, '/srv/a')], /no data directory/],
  ['the data directory twice', [MAIN, MAIN], /two data directories/],
  ['an oid twice', [space(16384, '/srv/a'), space(16384, '/srv/b'), MAIN], /16384 is listed twice/],
  ['a location twice', [space(16384, '/srv/a'), space(16385, '/srv/a'), MAIN], /16385 is listed twice/],
  ...[
    'srv/a',
    './a',
    '',
    '/',
    '/srv/../etc',
    '/srv/..',
    '/srv/./a',
    '/srv//a',
    '//srv/a',
    '/srv/a/',
    '/srv/a\0b',
  ].map((location): readonly [string, readonly TablespaceRow[], RegExp] => [
    `location ${JSON.stringify(location)}`,
    [space(16384, location), MAIN],
    /invalid location of tablespace 16384/,
  ]),
];

describe('refused', () => {
  for (const [name, rows, message] of REFUSED) {
    test(name, () => assert.throws(() => checkHeader(rows), { code: 'untrusted_peer', message }));
  }
});
