/* Starting and stopping: what is refused, and that the server leaves backup mode whenever the client goes away. */
import assert from 'node:assert/strict';
import * as fs from 'node:fs/promises';
import path from 'node:path';
import test, { type TestContext } from 'node:test';
import type { EmbeddedServer } from '../../src/demo/embedded-server.js';
import { sql, testServer, type Major, type TestServerOptions } from '../support/postgres.js';
import { errorOf, flow, packet, RawClient, resultSets } from './raw-client.js';
import { backupClient, createBackupRole, testServe, until, type TestServe } from './test-serve.js';

/** A spread checkpoint takes minutes with these, as long as there is something to write. */
const SLOW_CHECKPOINTS = { checkpoint_timeout: '1h', checkpoint_completion_target: '0.9', autovacuum: 'off' };

interface Fixture {
  readonly server: EmbeddedServer;
  readonly serve: TestServe;
  readonly client: RawClient;
}

async function fixture(
  t: TestContext,
  major: Major,
  settings: TestServerOptions['settings'] = {},
): Promise<Fixture> {
  const server = await testServer(t, { major, settings });
  await createBackupRole(server);
  const serve = await testServe(t, server);
  return { server, serve, client: await backupClient(t, serve) };
}

async function makeDirtyPages(server: EmbeddedServer): Promise<void> {
  await sql(server, "CREATE TABLE dirty AS SELECT repeat('x', 500) FROM generate_series(1, 20000)");
}

/** Backends of `serve` that are not the connections which its processes share. */
async function backupBackends(server: EmbeddedServer): Promise<string[]> {
  const rows = await sql<{ query: string }>(
    server,
    `SELECT query FROM pg_stat_activity
     WHERE application_name = 'pgconvoy serve' AND query ~ 'backup_st|log_timezone|start_backup|stop_backup'`,
  );
  return rows.map(({ query }) => query);
}

async function startedLabel(client: RawClient): Promise<string> {
  const answer = await client.query('START_BACKUP FAST');
  assert.equal(errorOf(answer), undefined);
  return resultSets(answer)[2]?.[0]?.[0] ?? '';
}

async function sendCancel(serve: TestServe, client: RawClient): Promise<void> {
  const processId = Buffer.alloc(4);
  processId.writeInt32BE(client.processId);
  const canceller = await RawClient.connect(serve.port);
  canceller.socket.write(packet(80877102, Buffer.concat([processId, client.secretKey])));
  await canceller.closed();
}

test('commands out of order and wrong labels are refused as PostgreSQL refuses them', async (t) => {
  const { client } = await fixture(t, 15);
  const idle = '55000 ERROR: non-exclusive backup is not in progress';
  const stop = await client.query("STOP_BACKUP LABEL 'x' WAL");
  assert.equal(flow(stop), 'EZ');
  assert.equal(errorOf(stop), idle);

  assert.match(
    errorOf(await client.query("START_BACKUP LABEL 'a\nb' FAST")) ?? '',
    /^22023 ERROR: backup label/,
  );
  const long = await client.query(`START_BACKUP LABEL '${'ä'.repeat(513)}' FAST`);
  assert.equal(errorOf(long), '22023 ERROR: backup label too long (max 1024 bytes)');
  assert.equal(flow(await client.query(`START_BACKUP LABEL '${'ä'.repeat(512)}' FAST`)), 'TDCTDCTDCCZ');
  assert.equal(flow(await client.query('STOP_BACKUP')), 'Hd*EZ');

  const broken = '55000 ERROR: invalid data in file "backup_label"';
  const label = await startedLabel(client);
  const wrongLabels = [
    undefined,
    '',
    'nonsense',
    label.replace(/CHECKPOINT LOCATION: .*/, 'CHECKPOINT LOCATION: 0/28'),
    label.replace('LABEL: start backup', 'LABEL: another'),
    label.replace(/START WAL LOCATION: \S+/, 'START WAL LOCATION: 0/1000028'),
  ];
  for (const wrong of wrongLabels) {
    if (wrong !== wrongLabels[0]) await startedLabel(client);
    const answer = await client.query(
      wrong === undefined ? 'STOP_BACKUP WAL' : `STOP_BACKUP LABEL '${wrong}' NOWAIT`,
    );
    assert.equal(errorOf(answer), broken, wrong);
    // the backup is gone with it
    assert.equal(errorOf(await client.query(`STOP_BACKUP LABEL '${label}'`)), idle);
  }
});

for (const major of [13, 18] as const) {
  test(`a client that goes away takes PostgreSQL ${major} out of backup mode`, async (t) => {
    const { server, serve, client } = await fixture(t, major, SLOW_CHECKPOINTS);
    await startedLabel(client);
    assert.equal((await backupBackends(server)).length, 1);
    client.socket.resetAndDestroy();
    await until('the backup connection is gone', async () => (await backupBackends(server)).length === 0);

    const waiting = await backupClient(t, serve);
    await makeDirtyPages(server);
    waiting.send('Q', 'START_BACKUP\0');
    await until(
      'the server waits for the checkpoint',
      async () => (await backupBackends(server)).length === 1,
    );
    waiting.socket.resetAndDestroy();
    await until('the wait has been ended', async () => (await backupBackends(server)).length === 0);
    assert.ok(serve.log.some((line) => line.includes('start of a backup aborted')));
  });
}

test('stop waits for the archiver where there is one, and NOWAIT does not', async (t) => {
  const archiving = { archive_mode: 'on', archive_command: 'test -e archive_now', archive_timeout: '0' };
  const { server, serve, client } = await fixture(t, 15, archiving);
  const first = await startedLabel(client);
  assert.equal(flow(await client.query(`STOP_BACKUP LABEL '${first}' WAL NOWAIT`)), 'Hd*cTDCCZ');

  const second = await startedLabel(client);
  client.send('Q', `STOP_BACKUP LABEL '${second}'\0`);
  await until('the server waits for the archiver', async () =>
    (await backupBackends(server)).some((query) => query.includes('pg_backup_stop')),
  );
  await sendCancel(serve, client);
  const answer = await client.untilReady();
  assert.equal(errorOf(answer), '57014 ERROR: canceling statement due to user request');

  const third = await startedLabel(client);
  await fs.writeFile(path.join(server.dataDirectory, 'archive_now'), '');
  await sql(server, 'SELECT pg_switch_wal()');
  assert.equal(errorOf(await client.query(`STOP_BACKUP LABEL '${third}' WAL`)), undefined);
});

test('a start that waits can be cancelled, WAL that is gone is named, a server that goes down ends the session', async (t) => {
  const { server, serve, client } = await fixture(t, 15, SLOW_CHECKPOINTS);
  await makeDirtyPages(server);
  client.send('Q', 'START_BACKUP\0');
  await until('the server waits for the checkpoint', async () => (await backupBackends(server)).length === 1);
  await sendCancel(serve, client);
  const cancelled = await client.untilReady();
  assert.equal(flow(cancelled), 'EZ');
  assert.equal(errorOf(cancelled), '57014 ERROR: canceling statement due to user request');
  assert.deepEqual(await backupBackends(server), []);

  const label = await startedLabel(client);
  const segment = /\(file ([0-9A-F]{24})\)/.exec(label)?.[1] ?? '';
  await sql(server, 'SELECT pg_switch_wal()');
  await fs.rm(path.join(server.dataDirectory, 'pg_wal', segment));
  const stopped = await client.query(`STOP_BACKUP LABEL '${label}' WAL`);
  assert.equal(flow(stopped).replaceAll('N', ''), 'Hd*EZ');
  assert.equal(errorOf(stopped), `XX000 ERROR: could not find WAL file "${segment}"`);

  await startedLabel(client);
  await server.stop('fast');
  const last = await client.closed();
  assert.equal(flow(last), 'E');
  assert.match(errorOf(last) ?? '', /^08006 FATAL: terminating connection because the backup is lost: /);
});
