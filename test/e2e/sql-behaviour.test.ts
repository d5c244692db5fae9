/*
 * Backups of stock servers over plain SQL when something is in the way: grants that are missing, sessions that end or fall
 * silent, WAL that is recycled, damaged pages; and clusters of unusual shape. PostgreSQL 15, and 13 where it differs.
 */
import assert from 'node:assert/strict';
import * as fs from 'node:fs/promises';
import path from 'node:path';
import { test, type TestContext } from 'node:test';
import type { EmbeddedServer } from '../../src/demo/embedded-server.js';
import { neededFunctions } from '../../src/source/sql-grants.js';
import { FaultyProxy } from '../support/faulty-proxy.js';
import { pgconvoy } from '../support/pgconvoy.js';
import { sql, testServer, type Major, type TestServerOptions } from '../support/postgres.js';
import { checkRestored, startRestored, verifyBackup } from '../support/restored.js';
import { RunningBackup } from '../support/running-backup.js';
import type { RunResult } from '../support/tools.js';
import {
  addTable,
  assertAbsent,
  assertFailed,
  newTarget,
  untilCopying,
  untilOutOfBackupMode,
} from './stage.js';

const PASSWORD = 'copy that';

interface SqlStage {
  readonly server: EmbeddedServer;
  readonly arguments: (target: string, extra?: readonly string[]) => string[];
}

/** A server and a role that has all grants and, unless told otherwise, REPLICATION. */
async function setSqlStage(
  t: TestContext,
  options: Partial<TestServerOptions> & { readonly replication?: boolean } = {},
): Promise<SqlStage> {
  const { replication = true, ...rest } = options;
  const server = await testServer(t, { major: 15, ...rest });
  const grants = neededFunctions(rest.major ?? 15).map(
    (name) => `GRANT EXECUTE ON FUNCTION pg_catalog.${name} TO "backup";`,
  );
  await sql(
    server,
    `CREATE ROLE backup LOGIN ${replication ? 'REPLICATION' : ''} PASSWORD '${PASSWORD}'; ${grants.join(' ')}`,
  );
  return { server, arguments: (target, extra) => sqlArguments(server, target, extra) };
}

function sqlArguments(
  { host, port }: { readonly host: string; readonly port: number },
  target: string,
  extra: readonly string[] = [],
): string[] {
  const connection = ['--source=sql', '-h', host, '-p', String(port), '-U', 'backup', '-w'];
  return ['-D', target, ...connection, '-c', 'fast', '-N', ...extra];
}

const ENVIRONMENT = { env: { PGPASSWORD: PASSWORD, PGSSLMODE: 'disable' } };

function take(args: readonly string[]): Promise<RunResult> {
  return pgconvoy(['backup', ...args], { ...ENVIRONMENT, timeoutMs: 100_000 });
}

for (const major of [13, 15] satisfies Major[]) {
  test(`each missing grant is named with the GRANT that mends it: PostgreSQL ${major}`, async (t) => {
    const stage = await setSqlStage(t, { major });
    for (const signature of neededFunctions(major)) {
      await sql(stage.server, `REVOKE EXECUTE ON FUNCTION pg_catalog.${signature} FROM backup`);
      const name = signature.slice(0, signature.indexOf('('));
      const target = await newTarget(t);
      const grant = `GRANT EXECUTE ON FUNCTION pg_catalog.${signature} TO "backup";`;
      assertFailed(await take(stage.arguments(target)), {
        error: new RegExp(`^permission denied for function ${name}$`),
        hint: new RegExp(`^${grant.replaceAll(/[()]/g, String.raw`\$&`)}$`),
      });
      await assertAbsent(target);
      const { host, port } = stage.server;
      const check = await pgconvoy(['check', '-h', host, '-p', String(port), '-U', 'backup'], ENVIRONMENT);
      assert.equal(check.status, 1, check.stderr);
      assert.ok(check.stdout.includes(grant), check.stdout);
      assert.match(check.stdout, new RegExp(`^not ok {3}function ${name}: permission denied`, 'm'));
      await sql(stage.server, grant);
    }
    const { host, port } = stage.server;
    const check = await pgconvoy(['check', '-h', host, '-p', String(port), '-U', 'backup'], ENVIRONMENT);
    assert.equal(check.status, 0, check.stdout);
    assert.doesNotMatch(check.stdout, /^not ok/m);
  });
}

test('the end of the coordinator session ends the backup at once', async (t) => {
  const stage = await setSqlStage(t);
  await addTable(stage.server, 'bulk', 20);
  const target = await newTarget(t);
  const running = RunningBackup.start(t, stage.arguments(target, ['-r', '1M']), ENVIRONMENT);
  await untilCopying(running, target);
  await sql(
    stage.server,
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pgconvoy'",
  );
  assertFailed(await running.ended, { error: /terminating connection due to administrator command/ });
  await assertAbsent(target);
  await untilOutOfBackupMode(stage.server);
});

test('a worker session that ends is replaced', async (t) => {
  const stage = await setSqlStage(t);
  await addTable(stage.server, 'bulk', 20);
  const target = await newTarget(t);
  const running = RunningBackup.start(t, stage.arguments(target, ['-r', '10M', '-j', '2']), ENVIRONMENT);
  await untilCopying(running, target);
  await sql(
    stage.server,
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pgconvoy worker' LIMIT 1",
  );
  const result = await running.ended;
  assert.equal(result.status, 0, result.stderr);
  assert.match(result.stderr, /warning: 1 tasks? (?:was|were) repeated/);
  await verifyBackup(t, target, 15);
});

test('a coordinator connection that falls silent is noticed', async (t) => {
  const stage = await setSqlStage(t);
  await addTable(stage.server, 'bulk', 60);
  const proxy = await FaultyProxy.start(t, stage.server);
  const target = await newTarget(t);
  const running = RunningBackup.start(t, sqlArguments(proxy, target, ['-r', '2M']), ENVIRONMENT);
  await untilCopying(running, target);
  (await proxy.connection(0)).freeze();
  assertFailed(await running.ended, {
    error: /^lost connection to server at "127\.0\.0\.1", port \d+: no answer for 7\.5 s$/,
  });
  await assertAbsent(target);
});

test('WAL that is recycled during the copy ends the backup with the remedy, where no slot may hold it', async (t) => {
  const settings = { wal_keep_size: '0', max_wal_size: '32MB', min_wal_size: '32MB' };
  const stage = await setSqlStage(t, { replication: false, settings });
  await addTable(stage.server, 'bulk', 30);
  const target = await newTarget(t);
  const running = RunningBackup.start(t, stage.arguments(target, ['-r', '1M', '-X', 'fetch']), ENVIRONMENT);
  await untilCopying(running, target);
  for (let round = 0; round < 6; round += 1) {
    await sql(
      stage.server,
      'CREATE TABLE IF NOT EXISTS churn (n int); INSERT INTO churn VALUES (1); SELECT pg_switch_wal()',
    );
    await sql(stage.server, 'CHECKPOINT');
  }
  assertFailed(await running.ended, {
    error: /^requested WAL segment [0-9A-F]{24} has already been removed$/,
    hint: /wal_keep_size.*REPLICATION/,
  });
  await assertAbsent(target);
  await untilOutOfBackupMode(stage.server);
});

test('a slot holds WAL that would be recycled, and goes with the backup', async (t) => {
  const settings = { wal_keep_size: '0', max_wal_size: '32MB', min_wal_size: '32MB' };
  const stage = await setSqlStage(t, { settings });
  await addTable(stage.server, 'bulk', 8);
  const target = await newTarget(t);
  const running = RunningBackup.start(t, stage.arguments(target, ['-r', '16M', '-X', 'fetch']), ENVIRONMENT);
  await untilCopying(running, target);
  for (let round = 0; round < 6; round += 1) {
    await sql(
      stage.server,
      'CREATE TABLE IF NOT EXISTS churn (n int); INSERT INTO churn VALUES (1); SELECT pg_switch_wal()',
    );
    await sql(stage.server, 'CHECKPOINT');
  }
  const result = await running.ended;
  assert.equal(result.status, 0, result.stderr);
  await verifyBackup(t, target, 15);
  await untilOutOfBackupMode(stage.server);
});

test('a damaged page is named with file and block, and the backup is complete', async (t) => {
  const stage = await setSqlStage(t);
  const { server } = stage;
  await addTable(server, 'bulk', 5);
  const [row] = await sql<{ path: string }>(
    server,
    "CHECKPOINT; SELECT pg_relation_filepath('bulk') AS path",
  );
  const relation = row?.path ?? '';
  await server.stop();
  const handle = await fs.open(path.join(server.dataDirectory, relation), 'r+');
  await handle.write(Buffer.alloc(64, 0x5a), 0, 64, 3 * 8192 + 4000);
  await handle.close();
  await server.start();
  const target = await newTarget(t);
  const result = await take(stage.arguments(target));
  assert.equal(result.status, 1);
  assert.match(
    result.stderr,
    new RegExp(`warning: checksum verification failed in file "${relation}", block 3: `),
  );
  assert.match(result.stderr, /error: checksum error occurred\n/);
  await verifyBackup(t, target, 15);
  const silent = await take(stage.arguments(await newTarget(t), ['--no-verify-checksums']));
  assert.equal(silent.status, 0, silent.stderr);
  assert.equal(silent.stderr, '');
});

test('a tablespace that is created while the backup starts leaves it restorable', async (t) => {
  const stage = await setSqlStage(t);
  const { server } = stage;
  // so many directories that there is time between the start and the end of the listing
  for (let n = 0; n < 30; n += 1) {
    await fs.mkdir(path.join(await server.makeDirectory(path.join(server.dataDirectory, `d${n}`)), 'below'), {
      mode: 0o755,
    });
  }
  const target = await newTarget(t);
  const before = await server.makeDirectory(path.join(await newTarget(t), '..', 'before'));
  const running = RunningBackup.start(t, stage.arguments(target, ['-v', '-r', '4M']), ENVIRONMENT);
  await running.printed(/checkpoint completed/);
  await sql(server, `CREATE TABLESPACE late LOCATION '${before}'`);
  await sql(server, 'CREATE TABLE in_late TABLESPACE late AS SELECT generate_series(1, 1000) n');
  const result = await running.ended;
  assert.equal(result.status, 0, result.stderr);
  await verifyBackup(t, target, 15);
  assert.deepEqual(await fs.readdir(path.join(target, 'pg_tblspc')), []);
});

test('settings of the role, a database that is not UTF-8, and odd names are no obstacle', async (t) => {
  const stage = await setSqlStage(t, { initdbArguments: ['--encoding=LATIN1', '--locale=C'] });
  const { server } = stage;
  await sql(
    server,
    `ALTER ROLE backup SET bytea_output = 'escape'; ALTER ROLE backup SET search_path = 'nowhere';
     ALTER ROLE backup SET statement_timeout = '1ms'; ALTER ROLE backup SET standard_conforming_strings = off;
     ALTER ROLE backup SET default_transaction_isolation = 'serializable';
     ALTER ROLE backup SET default_transaction_deferrable = on; ALTER ROLE backup SET client_encoding = 'LATIN1'`,
  );
  const names = [
    'été.conf',
    `quote'and"both`,
    String.raw`back\slash`,
    'new\nline',
    'tab\tulator',
    String.raw`\.`,
    String.raw`\N`,
    '日本語',
    'a:b c',
    '{brace,comma}',
    'NULL',
  ];
  for (const name of names) await fs.writeFile(path.join(server.dataDirectory, name), name, { mode: 0o644 });
  const target = await newTarget(t);
  const result = await take(stage.arguments(target));
  assert.equal(result.status, 0, result.stderr);
  await verifyBackup(t, target, 15);
  for (const name of names) assert.equal(await fs.readFile(path.join(target, name), 'utf8'), name);
});

test('a relation of more than 1 GiB, in two segments, is shared by all workers', async (t) => {
  const stage = await setSqlStage(t, { settings: { max_wal_size: '4GB', autovacuum: 'off' } });
  await sql(
    stage.server,
    `CREATE TABLE big (n int, filler text); ALTER TABLE big ALTER filler SET STORAGE plain;
     INSERT INTO big SELECT n, repeat('x', 2000) FROM generate_series(1, 540000) n; CHECKPOINT`,
  );
  const target = await newTarget(t);
  const result = await take(stage.arguments(target, ['-j', '3']));
  assert.equal(result.status, 0, result.stderr);
  await verifyBackup(t, target, 15);
  const restored = await startRestored(t, { dir: target, origin: stage.server });
  const [row] = await sql<{ count: string }>(restored, 'SELECT count(*) FROM big');
  assert.equal(row?.count, '540000');
  await checkRestored(t, restored, { highestCommitted: undefined });
});

test('a cluster of 100,000 files is copied whole', async (t) => {
  const stage = await setSqlStage(t);
  const parent = await stage.server.makeDirectory(path.join(stage.server.dataDirectory, 'many'));
  for (let directory = 0; directory < 100; directory += 1) {
    const below = path.join(parent, `d${directory}`);
    await fs.mkdir(below);
    await Promise.all(
      Array.from({ length: 1000 }, (_, file) => fs.writeFile(path.join(below, `f${file}`), `${file}`)),
    );
  }
  const { account } = stage.server;
  if (account !== undefined) await fs.chown(parent, account.uid, account.gid);
  for (const name of account === undefined ? [] : await fs.readdir(parent))
    await fs.chmod(path.join(parent, name), 0o755);
  const target = await newTarget(t);
  const result = await take(stage.arguments(target, ['-j', '2']));
  assert.equal(result.status, 0, result.stderr);
  await verifyBackup(t, target, 15);
  assert.equal((await fs.readdir(path.join(target, 'many', 'd42'))).length, 1000);
  assert.equal(await fs.readFile(path.join(target, 'many', 'd42', 'f777'), 'utf8'), '777');
});
