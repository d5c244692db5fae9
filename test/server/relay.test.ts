/* Commands that a walsender of the real server answers: with the rights of the client, and with stock tools. */
import assert from 'node:assert/strict';
import * as fs from 'node:fs/promises';
import path from 'node:path';
import test, { before } from 'node:test';
import type { EmbeddedServer } from '../../src/demo/embedded-server.js';
import { cleanup, temporaryDirectory } from '../support/cleanup.js';
import { sql, testServer } from '../support/postgres.js';
import { requireTool, run } from '../support/tools.js';
import { errorOf, flow, packet, RawClient, resultSets } from './raw-client.js';
import {
  BACKUP_ROLE,
  backupClient,
  createBackupRole,
  fileScope,
  testServe,
  until,
  type TestServe,
} from './test-serve.js';

const scope = fileScope();
let server: EmbeddedServer;
let serve: TestServe;

before(async () => {
  server = await testServer(scope, { major: 15, settings: { primary_conninfo: 'password=hidden' } });
  serve = await testServe(scope, server);
  await createBackupRole(server);
  await sql(server, 'CREATE TABLE t AS SELECT g FROM generate_series(1, 100000) g');
});

const toolOptions = {
  env: {
    PGPASSWORD: BACKUP_ROLE.password,
    PGUSER: BACKUP_ROLE.user,
    PGHOST: '127.0.0.1',
    PGCONNECT_TIMEOUT: '20',
  },
} as const;

test("IDENTIFY_SYSTEM, SHOW and TIMELINE_HISTORY have the real server's answers", async (t) => {
  const client = await backupClient(t, serve);
  const identity = await client.query('IDENTIFY_SYSTEM');
  assert.equal(flow(identity), 'TDCZ');
  const [row] = await sql<{ id: string }>(
    server,
    'SELECT system_identifier::text AS id FROM pg_control_system()',
  );
  assert.equal(resultSets(identity)[0]?.[0]?.[0], row?.id);
  assert.equal(resultSets(await client.query('SHOW wal_segment_size'))[0]?.[0]?.[0], '16MB');
  assert.equal(errorOf(await client.query('TIMELINE_HISTORY 7'))?.slice(0, 5), '58P01');
  const created = await client.query('CREATE_REPLICATION_SLOT kept TEMPORARY PHYSICAL');
  assert.equal(flow(created), 'TDCZ');
  assert.equal(flow(await client.query('READ_REPLICATION_SLOT kept')), 'TDCZ');
});

test('nobody gains a right: settings, files on the server and SQL are refused to a replication role', async (t) => {
  const client = await backupClient(t, serve);
  const refusals: readonly (readonly [string, string])[] = [
    ['SHOW primary_conninfo', '42501'],
    ["BASE_BACKUP (TARGET 'server', TARGET_DETAIL '/tmp/x')", '42501'],
    ['SELECT rolpassword FROM pg_authid', '0A000'],
    ['RESET ROLE', '0A000'],
    ['SET ROLE postgres', '0A000'],
    ['CREATE_REPLICATION_SLOT s LOGICAL test_decoding', '55000'],
  ];
  for (const [command, sqlState] of refusals) {
    const answer = await client.query(command);
    assert.equal(flow(answer), 'EZ', command);
    assert.equal(errorOf(answer)?.slice(0, 5), sqlState, command);
  }
  const superuser = await RawClient.logIn(serve.port, server.user, server.password, {
    replication: 'database',
  });
  cleanup(t, () => superuser.end());
  assert.equal(resultSets(await superuser.query('SHOW primary_conninfo'))[0]?.[0]?.[0], 'password=hidden');
  assert.equal(errorOf(await superuser.query('SELECT 1'))?.slice(0, 5), '0A000');
});

test('the extended protocol and fast-path calls are refused, and the session goes on', async (t) => {
  const client = await backupClient(t, serve);
  client.send('P', '\0SELECT 1\0\0\0');
  client.send('B', Buffer.alloc(10));
  client.send('S');
  const extended = await client.untilReady();
  assert.equal(flow(extended), 'EZ');
  assert.equal(
    errorOf(extended),
    '08P01 ERROR: extended query protocol not supported in a replication connection',
  );
  client.send('F', Buffer.alloc(10));
  assert.match(
    errorOf(await client.untilReady()) ?? '',
    /^08P01 ERROR: fastpath function calls not supported/,
  );
  client.send('c');
  client.send('H');
  client.send('S');
  assert.equal(flow(await client.untilReady()), 'Z');
  assert.equal(flow(await client.query('IDENTIFY_SYSTEM')), 'TDCZ');
  client.send('!', 'x');
  assert.match(errorOf(await client.closed()) ?? '', /^08P01 FATAL: /);
});

test('commands that are sent without waiting are answered in order', async (t) => {
  const client = await backupClient(t, serve);
  for (const command of ['IDENTIFY_SYSTEM', "SEND_BACKUP_FILES ('./PG_VERSION')", 'SHOW wal_segment_size']) {
    client.send('Q', `${command}\0`);
  }
  assert.equal(flow(await client.untilReady()), 'TDCZ');
  assert.equal(flow(await client.untilReady()), 'Hd*cCZ');
  assert.equal(flow(await client.untilReady()), 'TDCZ');
});

test('streaming goes both ways, and ends when the client says so', async (t) => {
  const client = await backupClient(t, serve);
  const [, , position] = resultSets(await client.query('IDENTIFY_SYSTEM'))[0]?.[0] ?? [];
  client.send('Q', `START_REPLICATION PHYSICAL ${position} TIMELINE 1\0`);
  assert.equal((await client.next()).type, 'W');
  await sql(server, 'INSERT INTO t SELECT g FROM generate_series(1, 1000) g');
  let walBytes = 0;
  while (walBytes === 0) {
    const { type, body } = await client.next();
    assert.equal(type, 'd');
    if (body.toString('latin1', 0, 1) === 'w') walBytes = body.length;
  }
  client.send('c');
  const rest = await client.untilReady();
  assert.match(flow(rest), /^(d\*)?cCCZ$|^(d\*)?cCZ$/);
  assert.equal(flow(await client.query('IDENTIFY_SYSTEM')), 'TDCZ');
});

test('a CancelRequest reaches the walsender', async (t) => {
  const client = await backupClient(t, serve);
  client.send('Q', "BASE_BACKUP (CHECKPOINT 'fast', MAX_RATE 32)\0");
  while ((await client.next()).type !== 'd');
  const processId = Buffer.alloc(4);
  processId.writeInt32BE(client.processId);
  const canceller = await RawClient.connect(serve.port);
  canceller.socket.write(packet(80877102, Buffer.concat([processId, client.secretKey])));
  await canceller.closed();
  assert.equal(errorOf(await client.untilReady()), '57014 ERROR: canceling statement due to user request');
});

test('a client that goes away takes its walsender with it', async (t) => {
  const client = await backupClient(t, serve);
  const walsenders = async (): Promise<number> =>
    (await sql(server, "SELECT 1 FROM pg_stat_replication WHERE application_name = 'leaving'")).length;
  const leaving = await RawClient.logIn(serve.port, BACKUP_ROLE.user, BACKUP_ROLE.password, {
    application_name: 'leaving',
  });
  leaving.send('Q', "BASE_BACKUP (CHECKPOINT 'fast', MAX_RATE 32)\0");
  await until('the walsender works', async () => (await walsenders()) === 1);
  leaving.socket.resetAndDestroy();
  await until('the walsender is gone', async () => (await walsenders()) === 0);
  assert.equal(flow(await client.query('IDENTIFY_SYSTEM')), 'TDCZ');
});

for (const method of ['stream', 'fetch'] as const) {
  test(`pg_basebackup -X ${method} works, and its backup is whole`, async (t) => {
    const pgBasebackup = requireTool(t, 'pg_basebackup');
    const pgVerifybackup = requireTool(t, 'pg_verifybackup');
    if (pgBasebackup === undefined || pgVerifybackup === undefined) return;
    const target = path.join(await temporaryDirectory(t), 'backup');
    const args = ['-p', String(serve.port), '-D', target, '-c', 'fast', '-X', method, '-N'];
    const taken = await run(pgBasebackup, args, toolOptions);
    assert.equal(taken.status, 0, taken.stderr);
    const verified = await run(pgVerifybackup, [target, ...(method === 'stream' ? ['-n'] : [])]);
    assert.equal(verified.status, 0, verified.stderr);
  });
}

test('pg_receivewal works', async (t) => {
  const pgReceivewal = requireTool(t, 'pg_receivewal');
  if (pgReceivewal === undefined) return;
  const directory = await temporaryDirectory(t);
  const controller = new AbortController();
  const args = ['-p', String(serve.port), '-D', directory, '--no-sync', '-v'];
  const running = run(pgReceivewal, args, { ...toolOptions, signal: controller.signal });
  const [segment] = await sql<{ name: string }>(
    server,
    'SELECT pg_walfile_name(pg_current_wal_lsn()) AS name',
  );
  await until('a whole segment has been received', async () => {
    await sql(server, 'INSERT INTO t VALUES (0)');
    await sql(server, 'SELECT pg_switch_wal()');
    return (await fs.readdir(directory)).some(
      (name) => /^[0-9A-F]{24}$/.test(name) && name >= (segment?.name ?? ''),
    );
  });
  controller.abort();
  const { stderr } = await running;
  assert.doesNotMatch(stderr, /error/);
});

test('what a client sends is passed on, too: UPLOAD_MANIFEST', async (t) => {
  const newer = await testServer(t, { major: 17 });
  await createBackupRole(newer);
  const client = await backupClient(t, await testServe(t, newer));
  client.send('Q', 'UPLOAD_MANIFEST\0');
  assert.equal((await client.next()).type, 'G');
  client.send('d', '{ "PostgreSQL-Backup-Manifest-Version": 7 }');
  client.send('c', '');
  const answer = await client.untilReady();
  assert.match(errorOf(answer) ?? '', /could not parse backup manifest/);
  assert.equal(flow(await client.query('IDENTIFY_SYSTEM')), 'TDCZ');
});
