import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ConvoyError } from '../../src/errors.js';
import { SqlListReader } from '../../src/source/sql-list.js';

const VERSION = 'PG_15_202209061';

type Row = [path: string, isDirectory: 't' | 'f', size?: string, mtime?: string];

function list(
  rows: readonly Row[],
  insideDirectories: readonly string[] = [],
  statsTempDirectory: string | undefined = 'stats',
): { files: string[]; directories: string[] } {
  const reader = new SqlListReader({
    walDirectories: ['pg_wal/archive_status'],
    linkedTablespaces: new Set([16384]),
    inPlaceTablespaces: new Set([16385]),
    versionDirectory: VERSION,
    insideDirectories,
    statsTempDirectory,
  });
  for (const [path, isDirectory, size = '10', mtime = '1700000000'] of rows)
    reader.add([path, isDirectory, size, mtime]);
  const { files, directories } = reader.finish();
  return { files: files.map((file) => file.target), directories: [...directories] };
}

test('what a base backup leaves out is left out', () => {
  const { files, directories } = list([
    ['PG_VERSION', 'f'],
    ['postmaster.pid', 'f'],
    ['.s.PGSQL.5432', 'f'],
    ['.s.PGSQL.5432.lock', 'f'],
    ['backup_label', 'f'],
    ['global', 't'],
    ['global/pg_control', 'f'],
    ['global/1262', 'f'],
    ['pg_wal', 't'],
    ['pg_replslot', 't'],
    ['pg_replslot/standby', 't'],
    ['stats', 't'],
    ['stats/db_0.stat', 'f'],
    ['base/5', 't'],
    ['base/5/100', 'f'],
    ['base/5/100_fsm', 'f'],
    ['base/5/100_init', 'f'],
    ['base/5/200', 'f'],
    ['base/5/t3_300', 'f'],
    ['base/pgsql_tmp', 't'],
    ['base/pgsql_tmp/pgsql_tmp1.0', 'f'],
  ]);
  assert.deepEqual(files, [
    'PG_VERSION',
    '.s.PGSQL.5432.lock',
    'global/1262',
    'base/5/100_init',
    'base/5/200',
  ]);
  assert.deepEqual(directories, [
    'global',
    'pg_wal',
    'pg_wal/archive_status',
    'pg_replslot',
    'stats',
    'base/5',
  ]);
});

test("only tablespaces of the backup are copied, of a linked one only this cluster's directory", () => {
  const { files, directories } = list([
    ['pg_tblspc', 't'],
    ['pg_tblspc/16384', 't'],
    ['pg_tblspc/16384/stray.txt', 'f'],
    ['pg_tblspc/16384/PG_14_202107181', 't'],
    [`pg_tblspc/16384/${VERSION}`, 't'],
    [`pg_tblspc/16384/${VERSION}/5`, 't'],
    [`pg_tblspc/16384/${VERSION}/5/100`, 'f'],
    ['pg_tblspc/16385', 't'],
    [`pg_tblspc/16385/${VERSION}`, 't'],
    [`pg_tblspc/16385/${VERSION}/5/100`, 'f'],
    // created after the backup had started: replay makes it
    ['pg_tblspc/16386', 't'],
    [`pg_tblspc/16386/${VERSION}`, 't'],
    [`pg_tblspc/16386/${VERSION}/5/100`, 'f'],
    [`pg_tblspc/16386/${VERSION}/5/new\nline`, 'f'],
  ]);
  assert.deepEqual(files, [`pg_tblspc/16384/${VERSION}/5/100`, `pg_tblspc/16385/${VERSION}/5/100`]);
  assert.deepEqual(directories, [
    'pg_tblspc',
    `pg_tblspc/16384/${VERSION}`,
    `pg_tblspc/16384/${VERSION}/5`,
    'pg_tblspc/16385',
    `pg_tblspc/16385/${VERSION}`,
  ]);
});

test('a tablespace inside the data directory is copied once', () => {
  const { files, directories } = list(
    [
      ['spaces', 't'],
      ['spaces/a', 't'],
      [`spaces/a/${VERSION}`, 't'],
      [`spaces/a/${VERSION}/5/100`, 'f'],
      [`pg_tblspc/16384/${VERSION}/5/100`, 'f'],
    ],
    ['spaces/a'],
  );
  assert.deepEqual(files, [`pg_tblspc/16384/${VERSION}/5/100`]);
  assert.deepEqual(directories, ['spaces', 'spaces/a']);
});

for (const { name, row, code } of [
  { name: 'a path that leads out', row: ['../x', 'f'], code: 'untrusted_peer' },
  { name: 'an absolute path', row: ['/etc/passwd', 'f'], code: 'untrusted_peer' },
  { name: 'a name that is not UTF-8', row: ['caf\u{fffd}', 'f'], code: 'file_damaged' },
  { name: 'a negative size', row: ['a', 'f', '-1'], code: 'untrusted_peer' },
  { name: 'a time after the year 9999', row: ['a', 'f', '1', '253402300800'], code: 'untrusted_peer' },
] satisfies { name: string; row: Row; code: string }[]) {
  test(`${name} is refused`, () => {
    assert.throws(
      () => list([row]),
      (error: unknown) => error instanceof ConvoyError && error.code === code,
    );
  });
}

test('a path twice is refused', () => {
  assert.throws(
    () =>
      list([
        ['a', 'f'],
        ['a', 'f'],
      ]),
    /listed twice/,
  );
});

test('an empty stats_temp_directory leaves nothing out', () => {
  const rows: Row[] = [
    ['PG_VERSION', 'f'],
    ['base', 't'],
    ['base/5', 't'],
    ['base/5/1', 'f'],
  ];
  assert.deepEqual(list(rows, [], ''), {
    files: ['PG_VERSION', 'base/5/1'],
    directories: ['base', 'base/5'],
  });
});

test('names that look the same once they are decoded are no names twice', () => {
  const rows: Row[] = [
    ['caf\u{fffd}', 'f'],
    ['caf\u{fffd}', 'f'],
  ];
  assert.throws(() => list(rows), { code: 'file_damaged', message: /not valid UTF-8: "caf\u{fffd}"$/u });
});
