/* Maps are those that servers returned for locations with every character that the format escapes. */
import assert from 'node:assert/strict';
import path from 'node:path';
import { describe, test } from 'node:test';
import { formatTablespaceMap, parseTablespaceMap } from '../../src/pgdata/tablespace-map.js';
import { temporaryDirectory } from '../support/cleanup.js';
import { connect, sql, testServer } from '../support/postgres.js';
import { SeededRandom } from '../support/seeded-random.js';

const NAMES = [
  'plain',
  'with blanks ',
  'new\nline',
  'carriage\rreturn',
  'back\\slash\\',
  'back\\slash',
  '\\n',
  'größe',
  '\n\\\r\n',
];

for (const major of [13, 15, 18] as const) {
  test(`of PostgreSQL ${major}`, { timeout: 60_000 }, async (t) => {
    const server = await testServer(t, { major });
    const parent = await temporaryDirectory(t);
    // 13 escapes line ends only, so that it cannot tell a backslash before one from its own
    const names = NAMES.filter((name) => major > 13 || !/\\(?:$|[\n\r\\])/.test(name));
    for (const [index, name] of names.entries()) {
      const directory = await server.makeDirectory(path.join(parent, name));
      await sql(server, `create tablespace space${index} location E'${directory.replaceAll('\\', '\\\\')}'`);
    }
    const rows = await sql<{ oid: number; location: string }>(
      server,
      `select oid::bigint::int as oid, pg_tablespace_location(oid) as location from pg_tablespace where spcname ~ '^space'`,
    );
    const session = await connect(server);
    await session.query(
      major < 15 ? `select pg_start_backup('x', true, false)` : `select pg_backup_start('x', true)`,
    );
    const stop = major < 15 ? 'pg_stop_backup(false, false)' : 'pg_backup_stop(false)';
    const stopped = await session.query<{ map: string }>(`select spcmapfile as map from ${stop}`);
    await session.end();
    const text = stopped.rows[0]?.map ?? '';
    const parsed = parseTablespaceMap(text);
    assert.deepEqual(
      parsed.toSorted((a, b) => a.oid - b.oid),
      rows.toSorted((a, b) => a.oid - b.oid),
    );
    assert.deepEqual(parsed.map(({ location }) => path.basename(location)).toSorted(), names.toSorted());
    assert.equal(formatTablespaceMap(parsed, major), text);
  });
}

describe('a map', () => {
  test('of nothing is empty', () => {
    assert.equal(formatTablespaceMap([], 15), '');
    assert.deepEqual(parseTablespaceMap(''), []);
  });

  test('is the same after it was written and read again', () => {
    const random = new SeededRandom(100);
    const characters = ['\n', '\r', '\\', ' ', '/', 'a', 'ü', '1'];
    for (let round = 0; round < 2000; round += 1) {
      const tablespaces = Array.from({ length: random.below(5) }, () => ({
        oid: 1 + random.below(4_294_967_295),
        location: `/${random.text(characters, 20)}`,
      }));
      assert.deepEqual(parseTablespaceMap(formatTablespaceMap(tablespaces, 15)), tablespaces);
    }
  });

  for (const text of [
    '/srv/ts1\n',
    '16384\n',
    '16384 \n',
    'x /srv\n',
    '-1 /srv\n',
    '16384\t/srv\n',
    '12345678901 /srv\n',
    '1 /a\nrubbish\n',
  ]) {
    test(`${JSON.stringify(text)} is refused`, () => {
      assert.throws(() => parseTablespaceMap(text), { code: 'file_damaged' });
    });
  }
});
