/*
 * Backups of standbys that replay a write load: what they are is what PostgreSQL makes of a base backup of a standby, the copy
 * reaches consistency on its own and as the next standby, and a promotion or a change of the primary ends a backup early.
 */
import assert from 'node:assert/strict';
import * as fs from 'node:fs/promises';
import path from 'node:path';
import { test, type TestContext } from 'node:test';
import type { EmbeddedServer } from '../../src/demo/embedded-server.js';
import { startServe } from '../support/pgconvoy.js';
import { sql, type Major } from '../support/postgres.js';
import { checkRestored, startRestored, verifyBackup } from '../support/restored.js';
import { RunningBackup } from '../support/running-backup.js';
import { caughtUp, replicatedServers, startStandby } from '../support/standby.js';
import { startWorkload, type Workload } from '../support/workload.js';
import {
  addTable,
  assertAbsent,
  assertFailed,
  newTarget,
  untilCopying,
  untilOutOfBackupMode,
  type ExpectedFailure,
} from './stage.js';

type Source = 'sql' | 'walsender';

/** DESIGN's bound for what ends a backup early. */
const NOTICE_LIMIT_MS = 10_000;

/** Starts a backup of a server over one of the two sources. */
async function startBackupOf(
  t: TestContext,
  server: EmbeddedServer,
  source: Source,
  target: string,
  extra: readonly string[],
): Promise<RunningBackup> {
  const { host, port } = source === 'sql' ? server : await startServe(t, server);
  const address = [`--source=${source}`, '-h', host, '-p', String(port), '-U', server.user, '-w'];
  return RunningBackup.start(
    t,
    ['-D', target, ...address, '-c', 'fast', '-N', '-X', 'fetch', '-j', '2', ...extra],
    { env: { PGPASSWORD: server.password, PGSSLMODE: 'disable' } },
  );
}

/** A backup to its end. @returns what it says on standard error */
async function takeBackupOf(
  t: TestContext,
  server: EmbeddedServer,
  source: Source,
  target: string,
  extra: readonly string[] = [],
): Promise<string> {
  const { status, stderr } = await (await startBackupOf(t, server, source, target, ['-v', ...extra])).ended;
  assert.equal(status, 0, stderr);
  return stderr;
}

/** What happens on the way ends a backup within the bound, with one line that names it. */
async function assertEndedBy(
  t: TestContext,
  server: EmbeddedServer,
  source: Source,
  happen: () => Promise<unknown>,
  expected: ExpectedFailure,
): Promise<void> {
  const target = await newTarget(t);
  const running = await startBackupOf(t, server, source, target, ['-r', '1M', '-X', 'stream']);
  await untilCopying(running, target);
  await happen();
  const happened = performance.now();
  assertFailed(await running.ended, expected);
  assert.ok(performance.now() - happened < NOTICE_LIMIT_MS);
  await assertAbsent(target);
  await untilOutOfBackupMode(server);
}

/** Without the file that a backup has from its standby, it is no standby itself. */
async function startAlone(t: TestContext, target: string, origin: EmbeddedServer): Promise<EmbeddedServer> {
  await fs.rm(path.join(target, 'standby.signal'));
  return await startRestored(t, { dir: target, origin });
}

/** The backup is what it should be, and a server that is started on it alone has all that was committed before its end. */
async function proveBackup(
  t: TestContext,
  server: EmbeddedServer,
  target: string,
  said: string,
  workload: Workload,
): Promise<void> {
  const stopLsn = /write-ahead log end point: (\S+)/.exec(said)?.[1] ?? '';
  const highestCommitted = workload.committedBy(stopLsn);
  assert.ok(highestCommitted > 0);
  const label = await fs.readFile(path.join(target, 'backup_label'), 'utf8');
  assert.match(label, /^BACKUP FROM: standby$/m);
  await verifyBackup(t, target, server.binaries.major);
  const restored = await startAlone(t, target, server);
  // every page and index, too, but once: they are the same in all versions
  if (server.binaries.major === 15) {
    await checkRestored(t, restored, { highestCommitted });
    return;
  }
  const [ledger] = await sql<{ rows: number; highest: number }>(
    restored,
    'SELECT count(*)::int AS rows, max(id)::int AS highest FROM ledger',
  );
  assert.equal(ledger?.rows, ledger?.highest);
  assert.ok((ledger?.rows ?? 0) >= highestCommitted);
}

/** Each source takes over what the other one does in the next version. */
const SCENARIOS: readonly (readonly [Major, Source, Source])[] = [
  [13, 'sql', 'walsender'],
  [15, 'walsender', 'sql'],
  [18, 'sql', 'walsender'],
];

/** The versions between, without promotions. */
const MORE_SCENARIOS: readonly (readonly [Major, Source, Source])[] = [
  [14, 'walsender', 'sql'],
  [16, 'sql', 'walsender'],
  [17, 'walsender', 'sql'],
];

const PROMOTED: ExpectedFailure = {
  error: /^(?:FATAL: +)?the standby was promoted during online backup$/,
  hint: /^try again: the copy cannot be used$/,
};

const SWITCHED: ExpectedFailure = {
  error: /^(?:FATAL: +)?the server switched to another timeline during the backup$/,
  hint: /^try again: the standby follows another primary now$/,
};

/** Two backups while the standby replays: one is started alone, the other, with its streamed WAL, as the next standby. */
async function proveBothSources(
  t: TestContext,
  major: Major,
  one: Source,
  other: Source,
): Promise<{ standby: EmbeddedServer; next: EmbeddedServer }> {
  const { primary, standby } = await replicatedServers(t, { major });
  await addTable(primary, 'bulk', 10);
  const workload = await startWorkload(primary);
  await workload.waitFor(20);
  await caughtUp(standby, primary);

  const target = await newTarget(t);
  const said = await takeBackupOf(t, standby, one, target, ['-r', '20M']);
  await proveBackup(t, standby, target, said, workload);

  const copy = await newTarget(t);
  await takeBackupOf(t, standby, other, copy, ['-X', 'stream']);
  await verifyBackup(t, copy, major);
  const next = await startStandby(t, copy, standby);
  await workload.stop();
  await caughtUp(next, primary);
  const [rows] = await sql<{ highest: string }>(next, 'SELECT max(id) AS highest FROM ledger');
  assert.equal(rows?.highest, String(workload.committed()));
  return { standby, next };
}

for (const [major, one, other] of MORE_SCENARIOS) {
  test(`a standby of PostgreSQL ${major} is backed up, to run alone, and as the next standby`, async (t) => {
    await proveBothSources(t, major, one, other);
  });
}

for (const [major, one, other] of SCENARIOS) {
  test(`a standby of PostgreSQL ${major} is backed up, to run alone, as the next standby, and over its promotion`, async (t) => {
    const { standby, next } = await proveBothSources(t, major, one, other);

    const promote = (server: EmbeddedServer) => () => sql(server, 'SELECT pg_promote()');
    await assertEndedBy(t, next, one, promote(standby), SWITCHED);
    // the old timeline and the new one in one backup, with the history of both
    await sql(standby, 'CREATE TABLE later AS SELECT 1; CHECKPOINT');
    await caughtUp(next, standby);
    const third = await newTarget(t);
    await takeBackupOf(t, next, other, third);
    assert.ok((await fs.readdir(path.join(third, 'pg_wal'))).includes('00000002.history'));
    const restored = await startAlone(t, third, next);
    assert.deepEqual(await sql(restored, 'SELECT count(*)::int AS n FROM later'), [{ n: 1 }]);

    await assertEndedBy(t, next, other, promote(next), PROMOTED);
  });
}

test('WAL that was written with full_page_writes=off is refused, with the remedy', async (t) => {
  const { primary, standby } = await replicatedServers(t, { major: 15 });
  const setFullPageWrites = async (value: 'on' | 'off'): Promise<void> => {
    await sql(primary, `ALTER SYSTEM SET full_page_writes = ${value}`);
    await sql(primary, 'SELECT pg_reload_conf()');
    await sql(
      primary,
      'CREATE TABLE IF NOT EXISTS something (n int); INSERT INTO something VALUES (1); CHECKPOINT',
    );
    await caughtUp(standby, primary);
    await sql(standby, 'CHECKPOINT');
  };
  await setFullPageWrites('off');
  for (const [source, error] of [
    ['sql', /^WAL on the standby was generated with full_page_writes=off$/],
    [
      'walsender',
      /^ERROR: +WAL generated with "?full_page_writes=off"? was replayed since last restartpoint$/,
    ],
  ] as const) {
    const target = await newTarget(t);
    const running = await startBackupOf(t, standby, source, target, []);
    assertFailed(await running.ended, { error, hint: /full_page_writes.* on the primary/i });
    await assertAbsent(target);
  }
  await setFullPageWrites('on');
  const target = await newTarget(t);
  await takeBackupOf(t, standby, 'sql', target);
  await verifyBackup(t, target, 15);
});

test('a standby that archives is waited for, and what ends the wait is said', async (t) => {
  const archive = await newTarget(t);
  const settings = { archive_mode: 'always', archive_command: 'true' };
  const { primary, standby } = await replicatedServers(t, { major: 15, settings });
  await sql(primary, 'CREATE TABLE something AS SELECT 1');
  await caughtUp(standby, primary);
  for (const source of ['sql', 'walsender'] as const) {
    const target = path.join(path.dirname(archive), source);
    const running = await startBackupOf(t, standby, source, target, ['-X', 'none', '-v']);
    await running.printed(/on a quiet one, run SELECT pg_switch_wal\(\) there/);
    await running.printed(/waiting for the server to finish/);
    await sql(primary, 'SELECT pg_switch_wal()');
    const { status, stderr } = await running.ended;
    assert.equal(status, 0, stderr);
  }
});

test('a standby that leaves the archive to its primary is not waited for', async (t) => {
  const settings = { archive_mode: 'on', archive_command: 'false' };
  const { primary, standby } = await replicatedServers(t, { major: 15, settings });
  await sql(primary, 'CREATE TABLE something AS SELECT 1');
  await caughtUp(standby, primary);
  for (const source of ['sql', 'walsender'] as const) {
    const said = await takeBackupOf(t, standby, source, await newTarget(t), ['-X', 'none']);
    assert.match(said, /on a quiet one, run SELECT pg_switch_wal\(\) there/);
  }
});
