/*
 * What makes going on senseless ends a backup soon and is named, whatever the backup waits for: frozen connections, WAL that is
 * gone, slots that are invalidated, servers that shut down. Both sources. Promotions and timelines are in standby.test.ts,
 * full disks in target.test.ts.
 */
import assert from 'node:assert/strict';
import { before, describe, test, type TestContext } from 'node:test';
import type { EmbeddedServer } from '../../src/demo/embedded-server.js';
import { fileScope, until } from '../server/test-serve.js';
import { FaultyProxy } from '../support/faulty-proxy.js';
import { startServe } from '../support/pgconvoy.js';
import { sql, testServer, type TestServerOptions } from '../support/postgres.js';
import { verifyBackup } from '../support/restored.js';
import { RunningBackup } from '../support/running-backup.js';
import {
  addTable,
  assertAbsent,
  assertFailed,
  newTarget,
  untilCopying,
  untilOutOfBackupMode,
  type Address,
} from './stage.js';

type Source = 'sql' | 'walsender';

/** DESIGN's ten seconds, which the tests of the watches assert; the rest is for a machine that is busy with other tests. */
const NOTICE_LIMIT_MS = 15_000;

/** A spread checkpoint takes minutes with these, as long as there is something to write; nothing is ever archived. */
const SLOW = {
  checkpoint_timeout: '1h',
  checkpoint_completion_target: '0.9',
  autovacuum: 'off',
  archive_mode: 'on',
  archive_command: 'false',
};

/** WAL is recycled as soon as nothing holds it. */
const SHORT_OF_WAL = { wal_keep_size: '0', max_wal_size: '32MB', min_wal_size: '32MB' };

async function addressOf(t: TestContext, server: EmbeddedServer, source: Source): Promise<Address> {
  return source === 'sql' ? server : await startServe(t, server);
}

function startBackupAt(
  t: TestContext,
  server: EmbeddedServer,
  source: Source,
  { host, port }: Address,
  target: string,
  extra: readonly string[],
): RunningBackup {
  const address = [`--source=${source}`, '-h', host, '-p', String(port), '-U', server.user, '-w'];
  return RunningBackup.start(
    t,
    ['-D', target, ...address, '-c', 'fast', '-N', '-X', 'fetch', '-j', '2', '-v', ...extra],
    { env: { PGPASSWORD: server.password, PGSSLMODE: 'disable' } },
  );
}

/** The backup ends with this one line, and in time. */
async function assertNoticed(
  running: RunningBackup,
  target: string,
  error: RegExp,
  hint?: RegExp,
): Promise<void> {
  const since = performance.now();
  assertFailed(await running.ended, hint === undefined ? { error } : { error, hint });
  assert.ok(performance.now() - since < NOTICE_LIMIT_MS, 'noticed in time');
  await assertAbsent(target);
}

async function untilServerRuns(server: EmbeddedServer, pattern: RegExp): Promise<void> {
  await until(`the server runs ${pattern}`, async () => {
    const rows = await sql<{ query: string }>(
      server,
      "SELECT query FROM pg_stat_activity WHERE application_name LIKE 'pgconvoy%' AND state = 'active'",
    );
    return rows.some(({ query }) => pattern.test(query));
  });
}

/** Over SQL a server whose connections pass nothing any more is told on a new one that the backup has ended. */
async function untilTold(server: EmbeddedServer): Promise<void> {
  await until('the server has been told', async () => {
    const sessions = "SELECT FROM pg_stat_activity WHERE application_name IN ('pgconvoy', 'pgconvoy watch')";
    return (await sql(server, sessions)).length === 0;
  });
}

async function churn(server: EmbeddedServer): Promise<void> {
  await sql(server, 'CREATE TABLE IF NOT EXISTS churn (n int)');
  for (let round = 0; round < 6; round += 1) {
    await sql(server, 'INSERT INTO churn VALUES (1); SELECT pg_switch_wal()');
    await sql(server, 'CHECKPOINT');
  }
}

/** The first connections of a backup: the coordinator's, and over SQL the watch's; workers come after them. */
const COORDINATORS: Readonly<Record<Source, number>> = { sql: 2, walsender: 1 };

describe('connections that pass nothing any more are noticed', () => {
  const scope = fileScope();
  let server: EmbeddedServer;
  before(async () => {
    server = await testServer(scope, { major: 15, settings: SLOW });
    await addTable(server, 'bulk', 20);
  });

  const SILENT =
    /^lost connection to server at "127\.0\.0\.1", port \d+: (?:no answer|nothing received) for 7\.5 s$/;

  const SILENT_STREAM =
    /^could not receive data from WAL stream: lost connection to .*: no answer for 7\.5 s$/;

  describe('all at once', { concurrency: 6 }, () => {
    for (const source of ['sql', 'walsender'] as const) {
      test(`${source}: during the copy`, async (t) => {
        const proxy = await FaultyProxy.start(t, await addressOf(t, server, source));
        const target = await newTarget(t);
        const running = startBackupAt(t, server, source, proxy, target, ['-r', '1M']);
        await untilCopying(running, target);
        for (const connection of proxy.connections.slice(0, COORDINATORS[source])) connection.freeze();
        await assertNoticed(running, target, SILENT);
        if (source === 'sql') await untilTold(server);
      });

      test(`${source}: the connection that WAL is streamed over`, async (t) => {
        const proxy = await FaultyProxy.start(t, await addressOf(t, server, source));
        const target = await newTarget(t);
        const running = startBackupAt(t, server, source, proxy, target, ['-r', '1M', '-X', 'stream']);
        await untilCopying(running, target);
        await running.printed(/starting background WAL receiver/);
        proxy.connections[COORDINATORS[source]]?.freeze();
        await assertNoticed(running, target, SILENT_STREAM);
      });

      test(`${source}: while the archive is waited for`, async (t) => {
        const proxy = await FaultyProxy.start(t, await addressOf(t, server, source));
        const target = await newTarget(t);
        const running = startBackupAt(t, server, source, proxy, target, ['-X', 'none']);
        await running.printed(/waiting for the server to finish the base backup/);
        await untilServerRuns(server, /backup_stop/);
        for (const connection of proxy.connections.slice(0, COORDINATORS[source])) connection.freeze();
        await assertNoticed(running, target, SILENT);
        if (source === 'sql') await untilTold(server);
      });
    }
  });

  test('walsender: while a spread checkpoint is waited for', async (t) => {
    await sql(server, "CREATE TABLE dirty AS SELECT repeat('x', 500) FROM generate_series(1, 20000)");
    const proxy = await FaultyProxy.start(t, await addressOf(t, server, 'walsender'));
    const target = await newTarget(t);
    const running = startBackupAt(t, server, 'walsender', proxy, target, ['-c', 'spread']);
    await untilServerRuns(server, /backup_start/);
    (await proxy.connection(0)).freeze();
    await assertNoticed(running, target, SILENT);
  });

  test('sql: the session that starts the backup alone, whose answer never comes', async (t) => {
    await sql(server, "CREATE TABLE dirty_again AS SELECT repeat('x', 500) FROM generate_series(1, 20000)");
    const proxy = await FaultyProxy.start(t, server);
    const target = await newTarget(t);
    const running = startBackupAt(t, server, 'sql', proxy, target, ['-c', 'spread']);
    await untilServerRuns(server, /backup_start/);
    (await proxy.connection(0)).freeze();
    await sql(server, 'CHECKPOINT');
    await assertNoticed(
      running,
      target,
      /^lost connection to server at "127\.0\.0\.1", port \d+: the answer does not arrive$/,
    );
    await untilOutOfBackupMode(server);
  });
});

describe('WAL that is not kept', () => {
  const stageFor = async (
    t: TestContext,
    settings: TestServerOptions['settings'],
  ): Promise<EmbeddedServer> => {
    const server = await testServer(t, { major: 15, settings: { ...SHORT_OF_WAL, ...settings } });
    await addTable(server, 'bulk', 20);
    return server;
  };

  test('a slot that is invalidated is named', async (t) => {
    const server = await stageFor(t, { max_slot_wal_keep_size: '16MB' });
    const target = await newTarget(t);
    const running = startBackupAt(t, server, 'sql', server, target, ['-r', '1M']);
    await untilCopying(running, target);
    await churn(server);
    await assertNoticed(
      running,
      target,
      /^requested WAL segment [0-9A-F]{24} has already been removed: the replication slot that held it was invalidated$/,
      /^raise max_slot_wal_keep_size on the server; or use -X none with an archive$/,
    );
    await untilOutOfBackupMode(server);
  });

  async function assertServeEnds(
    t: TestContext,
    settings: Readonly<Record<string, string>>,
    error: RegExp,
    hint: RegExp,
  ): Promise<void> {
    const server = await stageFor(t, settings);
    const target = await newTarget(t);
    const serve = await addressOf(t, server, 'walsender');
    const running = startBackupAt(t, server, 'walsender', serve, target, ['-r', '1M']);
    await untilCopying(running, target);
    await churn(server);
    await assertNoticed(running, target, error, hint);
    await untilOutOfBackupMode(server);
  }

  test('through serve, a slot that is invalidated ends the session, and is named as what may have done so', (t) =>
    assertServeEnds(
      t,
      { max_slot_wal_keep_size: '16MB' },
      /^FATAL: +terminating connection due to administrator command$/,
      /the slot that holds the WAL was invalidated: raise max_slot_wal_keep_size/,
    ));

  test('through serve, a segment that is gone ends the backup during the copy', (t) =>
    assertServeEnds(
      t,
      { max_replication_slots: '0' },
      /^requested WAL segment [0-9A-F]{24} has already been removed$/,
      /^raise wal_keep_size on the server/,
    ));
});

describe('a server that shuts down', () => {
  for (const source of ['sql', 'walsender'] as const) {
    test(`${source}: an immediate shutdown ends the backup`, async (t) => {
      const server = await testServer(t, { major: 15 });
      await addTable(server, 'bulk', 20);
      const target = await newTarget(t);
      const running = startBackupAt(t, server, source, await addressOf(t, server, source), target, [
        '-r',
        '1M',
      ]);
      await untilCopying(running, target);
      await server.stop('immediate');
      await assertNoticed(
        running,
        target,
        /^(?:FATAL|WARNING): +terminating connection |^(?:ERROR: +)?lost connection to server /,
      );
      await server.start();
      await untilOutOfBackupMode(server);
    });
  }

  test('a smart shutdown waits for the backup, and so does not end it', async (t) => {
    const server = await testServer(t, { major: 15 });
    await addTable(server, 'bulk', 8);
    const target = await newTarget(t);
    const running = startBackupAt(t, server, 'sql', server, target, ['-r', '8M']);
    await untilCopying(running, target);
    await until('the workers are connected', async () => {
      const rows = await sql(
        server,
        "SELECT FROM pg_stat_activity WHERE application_name = 'pgconvoy worker'",
      );
      return rows.length === 2;
    });
    const stopped = server.stop('smart');
    const { status, stderr } = await running.ended;
    assert.equal(status, 0, stderr);
    await stopped;
    await verifyBackup(t, target, 15);
  });
});

test('a watch whose session is ended does not end the backup, which goes on with another one', async (t) => {
  const server = await testServer(t, { major: 13, settings: SHORT_OF_WAL });
  await addTable(server, 'bulk', 8);
  const target = await newTarget(t);
  const running = startBackupAt(t, server, 'sql', server, target, ['-r', '4M']);
  await untilCopying(running, target);
  const watches = "FROM pg_stat_activity WHERE application_name = 'pgconvoy watch'";
  const [old] = await sql<{ pid: number }>(server, `SELECT pid, pg_terminate_backend(pid) ${watches}`);
  await until('there is another one, with a slot', async () => {
    const [slot] = await sql<{ active_pid: number }>(server, 'SELECT active_pid FROM pg_replication_slots');
    return slot !== undefined && slot.active_pid !== old?.pid;
  });
  const { status, stderr } = await running.ended;
  assert.equal(status, 0, stderr);
  await verifyBackup(t, target, 13);
});
