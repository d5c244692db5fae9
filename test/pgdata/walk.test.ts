/* What is listed of a real cluster is what its own BASE_BACKUP sends; the synthetic tree has what a cluster seldom has. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import type { EmbeddedServer } from '../../src/demo/embedded-server.js';
import { walkDataDirectory, walkTablespace, type WalkedFile } from '../../src/pgdata/walk.js';
import { baseBackup, filesInArchive, type BackedUpFile } from '../support/base-backup.js';
import { temporaryDirectory } from '../support/cleanup.js';
import { connect, sql, testServer } from '../support/postgres.js';

async function collect(batches: AsyncIterable<WalkedFile[]>): Promise<WalkedFile[]> {
  const files: WalkedFile[] = [];
  for await (const batch of batches) files.push(...batch);
  return files;
}

/** Everything that BASE_BACKUP leaves out, or sends in its own way, in one tree. */
function plantOddities(dataDirectory: string): void {
  const put = (name: string, content = 'x'): void => {
    const file = path.join(dataDirectory, name);
    mkdirSync(path.dirname(file), { recursive: true });
    writeFileSync(file, content);
  };
  for (const name of [
    'postgresql.auto.conf.tmp',
    'current_logfiles.tmp',
    'tablespace_map.old',
    'base/pgsql_tmp/pgsql_tmp1.1',
    'base/1/pg_internal.init.1',
    'base/1/t1_1',
    'base/1/t9_9_fsm.3',
    'base/1/t1_',
    'base/1/notes',
    'base/notes',
    'global/t1_1',
    'global/pgsql_tmpfoo',
    'extra/backup_label.old',
    'extra/backup_label',
    'extra/deep/er/file with blanks',
    'extra/deep/er/öäü',
    'extra/pg_notify/gone',
    'extra/pg_wal/kept',
    'extra/pg_tblspc/kept',
    'pg_replslot/slot/state',
    'pg_wal/archive_status/000000010000000000000001.ready',
    'pg_subtrans/gone',
  ]) {
    put(name);
  }
  mkdirSync(path.join(dataDirectory, 'extra', 'empty'));
  symlinkSync('/etc/passwd', path.join(dataDirectory, 'extra', 'link to a file'));
  symlinkSync('/nowhere', path.join(dataDirectory, 'dangling'));
  symlinkSync('/tmp', path.join(dataDirectory, 'pg_tblspc', 'no oid'));
  execFileSync('mkfifo', [path.join(dataDirectory, 'extra', 'fifo')]);
}

async function makeOddCluster(server: EmbeddedServer, parent: string): Promise<Map<string, string>> {
  const above = await server.makeDirectory(path.join(server.dataDirectory, 'spaces'));
  const places = [path.join(parent, 'outside'), path.join(above, 'inside')];
  for (const [index, place] of places.entries()) {
    await sql(server, `create tablespace space${index} location '${await server.makeDirectory(place)}'`);
  }
  await sql(
    server,
    `create table logged as select n from generate_series(1, 10000) n;
     create unlogged table unlogged as select n from generate_series(1, 10000) n;
     create unlogged table unlogged_outside tablespace space0 as select n from generate_series(1, 10000) n;
     create table inside (n int primary key) tablespace space1`,
  );
  for (const table of ['logged', 'unlogged', 'unlogged_outside']) await sql(server, `vacuum ${table}`);
  await server.makeDirectory(path.join(server.dataDirectory, 'base', 'pgsql_tmp'));
  plantOddities(server.dataDirectory);
  writeFileSync(path.join(places[0] ?? '', 'not PostgreSQLs'), 'x');
  const rows = await sql<{ oid: string; location: string }>(
    server,
    `select oid::text as oid, pg_tablespace_location(oid) as location from pg_tablespace where spcname ~ '^space'`,
  );
  return new Map(rows.map(({ oid, location }) => [oid, location]));
}

interface Entry {
  readonly name: string;
  readonly type: string;
  readonly size: number;
}

/** Sent besides what is listed, or no link of a tablespace. */
const NOT_IN_LIST = new Set(['backup_label', 'tablespace_map', 'global/pg_control', 'pg_tblspc/no oid', '']);

function lines(entries: readonly Entry[]): Set<string> {
  return new Set(entries.map(({ name, type, size }) => `${type} ${name} ${type === 'file' ? size : ''}`));
}

function assertSame(root: string, walked: readonly WalkedFile[], archive: readonly BackedUpFile[]): void {
  const listed = lines(
    walked.map(({ path: file, type, size }) => {
      assert.ok(file.startsWith(`${root}/`), file);
      return { name: file.slice(root.length + 1), type, size };
    }),
  );
  const sent = lines(archive.filter(({ name }) => !NOT_IN_LIST.has(name)));
  assert.deepEqual(
    {
      onlyListed: [...listed].filter((line) => !sent.has(line)),
      onlySent: [...sent].filter((line) => !listed.has(line)),
    },
    { onlyListed: [], onlySent: [] },
  );
}

for (const major of [13, 15, 18] as const) {
  test(`PostgreSQL ${major} would send the same files`, { timeout: 60_000 }, async (t) => {
    const server = await testServer(t, { major, settings: { autovacuum: 'off' } });
    const spaces = await makeOddCluster(server, await temporaryDirectory(t));
    const session = await connect(server);
    await session.query('create temporary table passing as select n from generate_series(1, 1000) n');
    const { archives } = await baseBackup(server, major);

    const warnings: string[] = [];
    const onWarning = (message: string): void => void warnings.push(message);
    const files = await collect(
      walkDataDirectory({
        dataDirectory: server.dataDirectory,
        majorVersion: major,
        tablespaceLocations: [...spaces.values()],
        statsTempDirectory: major < 15 ? 'pg_stat_tmp' : undefined,
        onWarning,
      }),
    );
    await session.end();

    assertSame('.', files, await filesInArchive(archives.get('base') ?? Buffer.alloc(0)));
    assert.ok(files.length > 900);
    assert.deepEqual(
      warnings.toSorted(),
      ['dangling', 'extra/fifo', 'extra/link to a file', 'pg_tblspc/no oid'].map(
        (name) => `skipping special file "./${name}"`,
      ),
    );

    assert.equal(spaces.size, 2);
    for (const [oid, location] of spaces) {
      const [version = ''] = readdirSync(location).filter((name) => name.startsWith('PG_'));
      const listed = await collect(walkTablespace(location, version, onWarning));
      assert.equal(listed[0]?.path, `${location}/${version}`);
      assertSame(location, listed, await filesInArchive(archives.get(oid) ?? Buffer.alloc(0)));
    }
    assertParentsFirst(files);
  });
}

/** A directory stands before its content, and nothing is listed twice. */
function assertParentsFirst(files: readonly WalkedFile[]): void {
  const directories = new Set(['.']);
  const seen = new Set<string>();
  for (const file of files) {
    assert.ok(directories.has(path.posix.dirname(file.path)), file.path);
    assert.ok(!seen.has(file.path), `${file.path} twice`);
    seen.add(file.path);
    if (file.type === 'directory') directories.add(file.path);
  }
}

function walkOf(dataDirectory: string): AsyncGenerator<WalkedFile[]> {
  const onWarning = (message: string): void => assert.fail(message);
  return walkDataDirectory({ dataDirectory, majorVersion: 15, tablespaceLocations: [], onWarning });
}

test('sizes and times are those of the files, in seconds', async (t) => {
  const directory = await temporaryDirectory(t);
  writeFileSync(path.join(directory, 'file'), 'abc');
  utimesSync(path.join(directory, 'file'), 1000, 1_700_000_000.9);
  mkdirSync(path.join(directory, 'empty'));
  utimesSync(path.join(directory, 'empty'), 1000, 12);
  const files = await collect(walkOf(directory));
  assert.deepEqual(
    files.toSorted((a, b) => (a.path < b.path ? -1 : 1)),
    [
      { path: './empty', type: 'directory', size: -1, mtime: 12 },
      { path: './file', type: 'file', size: 3, mtime: 1_700_000_000 },
    ],
  );
});

test('many files come in batches', async (t) => {
  const directory = await temporaryDirectory(t);
  const names = Array.from({ length: 1500 }, (_none, index) => `file${index}`);
  for (const name of names) writeFileSync(path.join(directory, name), '');
  const sizes: number[] = [];
  const seen: string[] = [];
  for await (const batch of walkOf(directory)) {
    sizes.push(batch.length);
    seen.push(...batch.map((file) => file.path.slice(2)));
  }
  assert.deepEqual(sizes, [1000, 500]);
  assert.deepEqual(seen.toSorted(), names.toSorted());
});

test('pg_wal and a relation directory that are links elsewhere are listed as directories', async (t) => {
  const directory = await temporaryDirectory(t);
  const elsewhere = await temporaryDirectory(t);
  writeFileSync(path.join(elsewhere, '000000010000000000000001'), '');
  symlinkSync(elsewhere, path.join(directory, 'pg_wal'));
  symlinkSync(elsewhere, path.join(directory, 'pg_stat_tmp'));
  const files = await collect(walkOf(directory));
  assert.deepEqual(files.map((file) => `${file.type} ${file.path} ${file.size}`).toSorted(), [
    'directory ./pg_stat_tmp -1',
    'directory ./pg_wal -1',
    'directory ./pg_wal/archive_status -1',
  ]);
});

test('a file name that is not UTF-8 is named in the error, for its file would be left out', async (t) => {
  const directory = await temporaryDirectory(t);
  writeFileSync(Buffer.concat([Buffer.from(`${directory}/`), Buffer.from([0x61, 0xff])]), '');
  await assert.rejects(collect(walkOf(directory)), { code: 'file_damaged', message: /not valid UTF-8/ });
});

test('nothing is listed of a tablespace without a directory of this version', async (t) => {
  const directory = await temporaryDirectory(t);
  mkdirSync(path.join(directory, 'PG_14_202107181'));
  const files = await collect(
    walkTablespace(directory, 'PG_15_202209061', (message) => assert.fail(message)),
  );
  assert.deepEqual(files, []);
});

test('a data directory that is gone has no files', async (t) => {
  const directory = await temporaryDirectory(t);
  assert.deepEqual(await collect(walkOf(path.join(directory, 'gone'))), []);
});
