/*
 * Backups in every format become data directories that PostgreSQL finds good and starts: at the point in time asked for, as
 * a standby, with their tablespaces and WAL elsewhere. The backups are pg_basebackup's.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import * as fs from 'node:fs/promises';
import path from 'node:path';
import { before, describe, test, type TestContext } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import { EmbeddedServer } from '../../src/demo/embedded-server.js';
import { fileScope } from '../server/test-serve.js';
import { cleanup, temporaryDirectory } from '../support/cleanup.js';
import { PROGRAM, pgconvoy } from '../support/pgconvoy.js';
import { sql, testServer } from '../support/postgres.js';
import { checkRestored, startRestored, verifyBackup } from '../support/restored.js';
import { caughtUp } from '../support/standby.js';
import { missingTool, run, tool, type RunResult } from '../support/tools.js';

const FORMATS = {
  plain: ['-Fp'],
  tar: ['-Ft'],
  gzip: ['-Ft', '-Z', 'client-gzip:1'],
  lz4: ['-Ft', '-Z', 'client-lz4'],
  zstd: ['-Ft', '-Z', 'client-zstd:1'],
} as const;
type Format = keyof typeof FORMATS;

/** Points to recover to, with the rows of the ledger there; the backups hold rows 1 to 100. */
interface Points {
  readonly xid: string;
  readonly lsn: string;
  readonly time: string;
}

const ARCHIVE_LIMIT_MS = 30_000;

const pgBasebackup = tool('pg_basebackup');
const scope = fileScope();
let server: EmbeddedServer;
let backups: string;
let archive: string;
/** Where the server has its tablespaces. */
let places: readonly [string, string];
let points: Points;

before(async () => {
  if (pgBasebackup === undefined) return;
  const directory = await temporaryDirectory(scope);
  backups = path.join(directory, 'backups');
  await fs.mkdir(backups);
  archive = path.join(directory, 'archive');
  server = await testServer(scope, {
    major: 15,
    settings: { archive_mode: 'on', archive_command: `cp "%p" "${archive}/%f"`, wal_level: 'replica' },
  });
  await server.makeDirectory(archive);
  places = [
    await server.makeDirectory(path.join(directory, 'one')),
    await server.makeDirectory(path.join(directory, 'two')),
  ];
  await sql(
    server,
    'CREATE TABLE ledger (id int PRIMARY KEY); INSERT INTO ledger SELECT generate_series(1, 100)',
  );
  for (const [index, place] of places.entries()) {
    await sql(server, `CREATE TABLESPACE space${index} LOCATION '${place}'`);
    await sql(
      server,
      `CREATE TABLE far${index} TABLESPACE space${index} AS
       SELECT n, repeat(md5(n::text), 30) AS filler FROM generate_series(1, ${index === 0 ? 12_000 : 500}) n`,
    );
  }
  await Promise.all(Object.keys(FORMATS).map((format) => takeBackup(format as Format)));
  points = await addHistory();
});

async function takeBackup(format: Format): Promise<void> {
  const { host, port, user, password } = server;
  const target = path.join(backups, format);
  const mapped = places.flatMap((place, index) => ['-T', `${place}=${target}-space${index}`]);
  const result = await run(
    pgBasebackup ?? '',
    ['-D', target, '-h', host, '-p', String(port), '-U', user, '-c', 'fast', '-N', ...FORMATS[format]].concat(
      format === 'plain' ? mapped : [],
    ),
    { env: { PGPASSWORD: password } },
  );
  assert.equal(result.status, 0, result.stderr);
}

/** Writes rows 101 to 105, names points between them, and waits until the archive has them all. */
async function addHistory(): Promise<Points> {
  await sql(server, 'INSERT INTO ledger VALUES (101)');
  await sql(server, "SELECT pg_create_restore_point('here')");
  const [transaction] = await sql<{ xid: string }>(
    server,
    'INSERT INTO ledger VALUES (102) RETURNING pg_current_xact_id()::text AS xid',
  );
  await sql(server, 'INSERT INTO ledger VALUES (103)');
  const [moment] = await sql<{ lsn: string; time: string }>(
    server,
    "SELECT pg_current_wal_lsn()::text AS lsn, to_char(clock_timestamp(), 'YYYY-MM-DD HH24:MI:SS.US TZH:TZM') AS time",
  );
  await sql(server, 'INSERT INTO ledger VALUES (104)');
  await sql(server, 'INSERT INTO ledger VALUES (105)');
  const [last] = await sql<{ segment: string }>(server, 'SELECT pg_walfile_name(pg_switch_wal()) AS segment');
  for (const limit = Date.now() + ARCHIVE_LIMIT_MS; Date.now() < limit; await delay(20)) {
    const names = await fs.readdir(archive);
    if (names.includes(last?.segment ?? '')) break;
  }
  return { xid: transaction?.xid ?? '', lsn: moment?.lsn ?? '', time: moment?.time ?? '' };
}

interface Restored {
  readonly directory: string;
  readonly spaces: readonly [string, string];
  readonly result: RunResult;
}

/** Restores a backup of the server with its tablespaces elsewhere, safely to disk. */
async function restore(t: TestContext, format: Format, extra: readonly string[]): Promise<Restored> {
  const parent = await temporaryDirectory(t);
  const directory = path.join(parent, 'data');
  const spaces = [path.join(parent, 'space one'), path.join(parent, 'space two')] as const;
  const from = format === 'plain' ? [0, 1].map((index) => `${backups}/plain-space${index}`) : places;
  const mapped = spaces.flatMap((to, index) => ['-T', `${from[index]}=${to}`]);
  const backup = path.join(backups, format);
  const result = await pgconvoy(['restore', backup, '-D', directory, '-j', '2', ...mapped, ...extra]);
  assert.equal(result.status, 0, result.stderr);
  return { directory, spaces, result };
}

async function ledgerRows(restored: EmbeddedServer): Promise<unknown> {
  const [row] = await sql(
    restored,
    `SELECT (SELECT count(*) FROM ledger)::int AS rows, (SELECT max(id) FROM ledger) AS last,
            (SELECT count(filler) FROM far0)::int AS far0, (SELECT count(filler) FROM far1)::int AS far1`,
  );
  return row;
}

interface Case {
  readonly format: Format;
  readonly name: string;
  readonly options: () => readonly string[];
  readonly rows: number;
}

const CASES: readonly Case[] = [
  { format: 'tar', name: 'a restore point', options: () => ['--target-name', 'here'], rows: 101 },
  {
    format: 'gzip',
    name: 'just before a transaction',
    options: () => ['--target-xid', points.xid, '--target-inclusive', 'false'],
    rows: 101,
  },
  { format: 'plain', name: 'a WAL position', options: () => ['--target-lsn', points.lsn], rows: 103 },
  { format: 'zstd', name: 'a time', options: () => ['--target-time', points.time], rows: 103 },
  { format: 'lz4', name: 'the consistent point', options: () => ['--target-immediate'], rows: 100 },
];

describe(
  'backups restored and started',
  { skip: pgBasebackup === undefined && missingTool('pg_basebackup') },
  () => {
    for (const { format, name, options, rows } of CASES) {
      test(`${format}, recovered to ${name}`, async (t) => {
        if (format === 'plain') await leaveOldTarget(path.join(backups, format));
        const restoreCommand = `cp "${archive}/%f" "%p"`;
        const wal = path.join(await temporaryDirectory(t), 'wal');
        const { directory, spaces, result } = await restore(t, format, [
          ...options(),
          '--waldir',
          wal,
          '--target-action',
          'promote',
          '--restore-command',
          restoreCommand,
        ]);
        assert.equal(result.stdout, `pg_ctl -D ${directory} start\n`);
        await verifyBackup(t, directory, 15);
        assert.deepEqual(
          (await fs.readdir(directory)).filter((file) => /tablespace_map|signal|\.tmp/.test(file)),
          ['recovery.signal'],
        );
        assert.equal((await fs.stat(directory)).mode & 0o777, 0o700);
        assert.equal((await fs.stat(path.join(directory, 'global/pg_control'))).mode & 0o777, 0o600);
        const restored = await startRestored(t, {
          dir: directory,
          origin: server,
          tablespaces: [...spaces, wal],
        });
        assert.deepEqual(await ledgerRows(restored), { rows, last: rows, far0: 12_000, far1: 500 });
        if (format === 'zstd') await checkRestored(t, restored, { highestCommitted: rows });
      });
    }

    test('without a target a backup is as it was taken; WAL goes where it is told', async (t) => {
      const parent = await temporaryDirectory(t);
      const wal = path.join(parent, 'deep', 'wal');
      const { directory, spaces, result } = await restore(t, 'tar', ['--waldir', wal, '-v', '-P']);
      assert.equal(await fs.readlink(path.join(directory, 'pg_wal')), wal);
      assert.ok((await fs.readdir(wal)).some((name) => /^[0-9A-F]{24}$/.test(name)));
      assert.match(result.stderr, /backup successfully verified/);
      assert.match(result.stderr, /\d+\/\d+ kB \(100%\)/);
      if (process.getuid?.() === 0) {
        assert.match(
          result.stderr,
          new RegExp(`hint: .*chown -R postgres ${directory} '${spaces[0]}'.* ${wal}"`),
        );
      }
      await verifyBackup(t, directory, 15);
      const restored = await startRestored(t, {
        dir: directory,
        origin: server,
        tablespaces: [...spaces, wal],
      });
      assert.deepEqual(await ledgerRows(restored), { rows: 100, last: 100, far0: 12_000, far1: 500 });
    });

    test('a standby follows its primary', async (t) => {
      const { host, port, user, password } = server;
      const conninfo = `host=${host} port=${port} user=${user} password=${password} application_name='it\\'s'`;
      const { directory, spaces } = await restore(t, 'gzip', ['--standby', '--primary-conninfo', conninfo]);
      const standby = await EmbeddedServer.adopt({
        binaries: server.binaries,
        dataDirectory: directory,
        tablespaces: spaces,
        password,
      });
      cleanup(t, () => standby[Symbol.asyncDispose]());
      await standby.start();
      await caughtUp(standby, server);
      assert.deepEqual(await sql(standby, 'SELECT pg_is_in_recovery() AS is, max(id) AS last FROM ledger'), [
        { is: true, last: 105 },
      ]);
    });

    test('without -T the tablespaces go where they were, which must be empty', async (t) => {
      const directory = path.join(await temporaryDirectory(t), 'data');
      const result = await pgconvoy(['restore', path.join(backups, 'lz4'), '-D', directory]);
      assert.equal(result.status, 1);
      assert.match(result.stderr, new RegExp(`error: directory "${places[0]}" exists but is not empty`));
      await assert.rejects(fs.stat(directory), { code: 'ENOENT' });
      assert.deepEqual(await sql(server, 'SELECT count(*)::int AS rows FROM far1'), [{ rows: 500 }]);
    });
  },
);

/** A cluster that was once recovered still says to where. */
async function leaveOldTarget(backup: string): Promise<void> {
  await fs.appendFile(
    path.join(backup, 'postgresql.auto.conf'),
    "recovery_target_name = 'old'\nrecovery_target_action = 'shutdown'\n",
  );
}

describe(
  'one tar that holds everything',
  { skip: pgBasebackup === undefined && missingTool('pg_basebackup') },
  () => {
    const single = fileScope();
    let origin: EmbeddedServer;
    let file: string;

    before(async () => {
      if (pgBasebackup === undefined) return;
      origin = await testServer(single, { major: 15 });
      file = path.join(await temporaryDirectory(single), 'all.tar');
      const { host, port, user, password } = origin;
      const args = ['-D', '-', '-Ft', '-X', 'fetch', '-c', 'fast', '--manifest-checksums', 'SHA256'];
      const command = `"${pgBasebackup}" ${args.join(' ')} -h ${host} -p ${port} -U ${user} > "${file}"`;
      const made = await run('/bin/sh', ['-c', command], { env: { PGPASSWORD: password } });
      assert.equal(made.status, 0, made.stderr);
      await promisify(execFile)('gzip', ['-k', '-1', file]);
    });

    test('is restored from a file and from standard input, and started', async (t) => {
      const parent = await temporaryDirectory(t);
      for (const [name, ending] of [
        ['file', ''],
        ['packed', '.gz'],
      ] as const) {
        const directory = path.join(parent, name);
        const result = await pgconvoy(['restore', `${file}${ending}`, '-D', directory, '-N']);
        assert.equal(result.status, 0, result.stderr);
        await verifyBackup(t, directory, 15);
      }
      const directory = path.join(parent, 'stream');
      const wal = path.join(parent, 'wal');
      for (const ending of ['', '.gz']) {
        const command = `"$0" "$@" < "${file}${ending}"`;
        for (const made of [directory, wal]) await fs.rm(made, { recursive: true, force: true });
        const args = ['restore', '-', '-D', directory, '--waldir', wal];
        const result = await run('/bin/sh', ['-c', command, process.execPath, PROGRAM, ...args]);
        assert.equal(result.status, 0, result.stderr);
      }
      await verifyBackup(t, directory, 15);
      const restored = await startRestored(t, { dir: directory, origin, tablespaces: [wal] });
      await checkRestored(t, restored, { highestCommitted: undefined });
    });

    test('that is cut short, or damaged where only the manifest can tell, leaves nothing', async (t) => {
      const parent = await temporaryDirectory(t);
      const whole = await fs.readFile(file);
      const directory = path.join(parent, 'data');
      const restoreFrom = async (content: Buffer, name: string): Promise<string> => {
        const damaged = path.join(parent, name);
        await fs.writeFile(damaged, content);
        const result = await pgconvoy(['restore', damaged, '-D', directory]);
        assert.equal(result.status, 1);
        assert.equal(result.stdout, '');
        await assert.rejects(fs.stat(directory), { code: 'ENOENT' });
        return result.stderr;
      };
      assert.match(
        await restoreFrom(whole.subarray(0, whole.length >> 1), 'cut.tar'),
        /^pgconvoy: error: archive "cut\.tar" is damaged: tar stream ended inside a member\n$/,
      );
      const at = whole.indexOf('# PostgreSQL Client Authentication');
      whole[at] = 0x21;
      assert.match(
        await restoreFrom(whole, 'flipped.tar'),
        /^pgconvoy: error: checksum mismatch for file "pg_hba\.conf"\npgconvoy: error: the backup is not as/,
      );
    });
  },
);
