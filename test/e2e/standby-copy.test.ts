/*
 * `backup -R --waldir`: a copy that follows its server once it is started, held against what pg_basebackup writes for the
 * same options; and what is refused.
 */
import assert from 'node:assert/strict';
import * as fs from 'node:fs/promises';
import path from 'node:path';
import { before, describe, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { EmbeddedServer } from '../../src/demo/embedded-server.js';
import { parseConnectionString } from '../../src/wire/conninfo-string.js';
import { fileScope } from '../server/test-serve.js';
import { cleanup, temporaryDirectory } from '../support/cleanup.js';
import { pgconvoy } from '../support/pgconvoy.js';
import { sql, testServer } from '../support/postgres.js';
import { RunningBackup } from '../support/running-backup.js';
import { verifyBackup } from '../support/restored.js';
import { requireTool, run, tool } from '../support/tools.js';
import { assertAbsent, assertFailed, untilCopying, untilOutOfBackupMode } from './stage.js';

const scope = fileScope();
let server: EmbeddedServer;
before(async () => {
  server = await testServer(scope, { major: 15 });
  await sql(server, 'CREATE TABLE ledger AS SELECT generate_series(1, 100) AS id');
  await sql(server, `ALTER SYSTEM SET log_line_prefix = 'it''s a prefix '`);
});

/** A password that needs quoting thrice. */
const PASSWORD = String.raw`it's a \ "password"`;

function options(target: string, user: string): string[] {
  return [
    '-D',
    target,
    '-h',
    server.host,
    '-p',
    String(server.port),
    '-U',
    user,
    '-w',
    '-c',
    'fast',
    '-N',
    '-X',
    'fetch',
  ];
}

async function settingsIn(directory: string): Promise<Map<string, string>> {
  const text = await fs.readFile(path.join(directory, 'postgresql.auto.conf'), 'utf8');
  const lines = [...text.matchAll(/^(\w+) = '(.*)'$/gm)];
  return new Map(
    lines.map(([, name = '', value = '']) => [name, value.replaceAll("''", "'").replaceAll('\\\\', '\\')]),
  );
}

/** Returns once the standby has replayed all that the primary has written. */
async function untilCaughtUp(standby: EmbeddedServer): Promise<void> {
  const [primary] = await sql<{ lsn: string }>(server, 'SELECT pg_current_wal_lsn()::text AS lsn');
  for (const limit = Date.now() + 20_000; ; await delay(50)) {
    const [row] = await sql<{ done: boolean }>(
      standby,
      `SELECT pg_is_in_recovery() AND pg_last_wal_replay_lsn() >= '${primary?.lsn}' AS done`,
    );
    if (row?.done === true) return;
    assert.ok(Date.now() < limit, 'the standby does not follow');
  }
}

test('-R and --waldir: a standby that follows its primary, with the settings that pg_basebackup writes', async (t) => {
  await sql(
    server,
    `CREATE ROLE mover LOGIN SUPERUSER REPLICATION PASSWORD '${PASSWORD.replaceAll("'", "''")}'`,
  );
  const parent = await temporaryDirectory(t);
  const [target, waldir] = [path.join(parent, 'standby'), path.join(parent, 'wal', 'here')];
  const env = { PGPASSWORD: PASSWORD, PGSSLMODE: 'disable' };
  const result = await pgconvoy(
    ['backup', ...options(target, 'mover'), '--source=sql', '-R', '--waldir', `${waldir}/`],
    { env },
  );
  assert.equal(result.status, 0, result.stderr);
  await verifyBackup(t, target, 15);
  assert.equal(await fs.readlink(path.join(target, 'pg_wal')), waldir);
  assert.ok((await fs.readdir(waldir)).some((name) => /^[0-9A-F]{24}$/.test(name)));
  const signal = await fs.stat(path.join(target, 'standby.signal'));
  assert.deepEqual([signal.size, signal.mode & 0o777], [0, 0o600]);

  const command = requireTool(t, 'pg_basebackup');
  if (command !== undefined) {
    const theirs = path.join(parent, 'theirs');
    const made = await run(command, [...options(theirs, 'mover'), '-R'], { env });
    assert.equal(made.status, 0, made.stderr);
    const [ourSettings, theirSettings] = await Promise.all([settingsIn(target), settingsIn(theirs)]);
    assert.deepEqual([...ourSettings.keys()], [...theirSettings.keys()]);
    const ours = parseConnectionString(ourSettings.get('primary_conninfo') ?? '');
    const expected = parseConnectionString(theirSettings.get('primary_conninfo') ?? '');
    // what they write beyond ours are the defaults of any libpq
    for (const keyword of [
      'sslcompression',
      'sslsni',
      'ssl_min_protocol_version',
      'gssencmode',
      'krbsrvname',
      'target_session_attrs',
    ]) {
      expected.delete(keyword);
    }
    assert.deepEqual([...ours], [...expected]);
  }

  await fs.chmod(parent, 0o755);
  await fs.chmod(path.join(parent, 'wal'), 0o755);
  const standby = await EmbeddedServer.adopt({
    binaries: server.binaries,
    dataDirectory: target,
    tablespaces: [waldir],
    password: server.password,
  });
  cleanup(t, () => standby[Symbol.asyncDispose]());
  await standby.start();
  await sql(server, 'INSERT INTO ledger SELECT generate_series(101, 200)');
  await untilCaughtUp(standby);
  assert.deepEqual(await sql(standby, 'SELECT count(*)::int AS n FROM ledger'), [{ n: 200 }]);
  assert.deepEqual(await sql(standby, `SELECT current_setting('log_line_prefix') AS prefix`), [
    { prefix: "it's a prefix " },
  ]);
});

for (const [compression, suffix] of [
  ['none', 'tar'],
  ['gzip', 'tar.gz'],
  ['zstd', 'tar.zst'],
] as const) {
  test(`-R in an archive compressed with ${compression}: the settings at the end of the same file, and the signal file`, async (t) => {
    if (suffix === 'tar.zst' && tool('zstd') === undefined) {
      t.skip('zstd is not installed');
      return;
    }
    const target = path.join(await temporaryDirectory(t), 'archives');
    const env = { PGPASSWORD: server.password, PGSSLMODE: 'disable' };
    const result = await pgconvoy(
      ['backup', ...options(target, 'postgres'), '--source=sql', '-F', 't', '-Z', compression, '-R'],
      {
        env,
      },
    );
    assert.equal(result.status, 0, result.stderr);
    const archive = path.join(target, `base.${suffix}`);
    const listed = await run('tar', ['-tvf', archive]);
    assert.equal(listed.status, 0, listed.stderr);
    assert.match(listed.stdout, /^-rw------- .* 0 \S+ \S+ standby\.signal$/m);
    const { stdout } = await run('tar', ['-xOf', archive, 'postgresql.auto.conf']);
    const original = await fs.readFile(path.join(server.dataDirectory, 'postgresql.auto.conf'), 'utf8');
    assert.ok(stdout.startsWith(original), stdout);
    const address = `host='127.0.0.1' port=${server.port}`.replaceAll("'", '');
    assert.match(
      stdout.slice(original.length),
      new RegExp(
        `^primary_conninfo = 'user=postgres password=\\w+ channel_binding=prefer ${address} sslmode=disable'\n$`,
      ),
    );
    const manifest = await fs.readFile(path.join(target, 'backup_manifest'), 'utf8');
    assert.ok(manifest.includes(`"Path": "postgresql.auto.conf", "Size": ${Buffer.byteLength(original)},`));
    assert.doesNotMatch(manifest, /standby\.signal/);
  });
}

describe('--waldir', () => {
  test('that is not empty is refused before anything is made', async (t) => {
    const parent = await temporaryDirectory(t);
    await fs.mkdir(path.join(parent, 'wal'));
    await fs.writeFile(path.join(parent, 'wal', 'mine'), '');
    const target = path.join(parent, 'backup');
    const result = await pgconvoy([
      'backup',
      ...options(target, 'postgres'),
      '--waldir',
      path.join(parent, 'wal'),
    ]);
    assertFailed(result, {
      error: /^directory ".*\/wal" exists but is not empty$/,
      hint: /^remove or empty it, or name another directory$/,
    });
    assert.deepEqual(await fs.readdir(parent), ['wal']);
  });

  test('within the data directory is refused', async (t) => {
    const target = path.join(await temporaryDirectory(t), 'backup');
    const result = await pgconvoy(
      ['backup', ...options(target, 'postgres'), '--source=sql', '--waldir', path.join(target, 'wal')],
      { env: { PGPASSWORD: server.password } },
    );
    assertFailed(result, {
      error: /^WAL directory ".*\/backup\/wal" overlaps ".*\/backup"$/,
      hint: /^give it a directory of its own with --waldir$/,
    });
    await assertAbsent(target);
    await untilOutOfBackupMode(server);
  });

  for (const isKept of [false, true]) {
    test(`of a backup that failed ${isKept ? 'stays with -n' : 'goes'}`, async (t) => {
      const parent = await temporaryDirectory(t);
      const [target, waldir] = [path.join(parent, 'backup'), path.join(parent, 'wal', 'here')];
      await fs.mkdir(path.join(parent, 'wal'));
      const extra = ['--source=sql', '--waldir', waldir, '-r', '1M', ...(isKept ? ['-n'] : [])];
      const running = RunningBackup.start(t, [...options(target, 'postgres'), ...extra], {
        env: { PGPASSWORD: server.password },
      });
      await untilCopying(running, target);
      const result = await running.endBy('SIGINT');
      assertFailed(result, { error: /^interrupted by SIGINT$/ });
      if (isKept) {
        for (const line of [
          `pgconvoy: data directory "${target}" not removed at user's request`,
          `pgconvoy: WAL directory "${waldir}" not removed at user's request`,
        ]) {
          assert.ok(result.stderr.split('\n').includes(line), result.stderr);
        }
        assert.deepEqual(await fs.readdir(waldir), ['archive_status']);
      } else {
        await assertAbsent(target);
        assert.deepEqual(await fs.readdir(path.join(parent, 'wal')), []);
      }
      await untilOutOfBackupMode(server);
    });
  }
});
