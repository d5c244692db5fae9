/*
 * `pgconvoy check`: what it says of connections is what the server lets in, each need that is not met is mended by the very
 * SQL that is printed, and a target is judged by what a backup would write there.
 */
import assert from 'node:assert/strict';
import * as fs from 'node:fs/promises';
import path from 'node:path';
import { test, type TestContext } from 'node:test';
import type { Client } from 'pg';
import type { EmbeddedServer } from '../../src/demo/embedded-server.js';
import { neededFunctions } from '../../src/source/sql-grants.js';
import { cleanup, temporaryDirectory } from '../support/cleanup.js';
import { pgconvoy } from '../support/pgconvoy.js';
import { connect, sql, testServer, type Major } from '../support/postgres.js';
import { blocksOf, smallDisk } from '../support/small-disk.js';
import type { RunResult } from '../support/tools.js';
import { assertAbsent, assertFailed, newTarget } from './stage.js';

const ROLE = 'backup';
const PASSWORD = 'copy that';
const MiB = 1024 * 1024;

/** With a role that has the grants and nothing else. */
async function stageFor(
  t: TestContext,
  major: Major,
  settings: Readonly<Record<string, string>>,
): Promise<EmbeddedServer> {
  const server = await testServer(t, { major, settings });
  const grants = neededFunctions(major).map((name) => `GRANT EXECUTE ON FUNCTION ${name} TO ${ROLE};`);
  await sql(server, `CREATE ROLE ${ROLE} LOGIN PASSWORD '${PASSWORD}'; ${grants.join(' ')}`);
  return server;
}

/** Of a backup with -X fetch; what -X stream needs beyond that is in wal-stream.test.ts. */
function check(server: EmbeddedServer, ...extra: string[]): Promise<RunResult> {
  const address = ['-h', server.host, '-p', String(server.port), '-U', ROLE, '-w', '-X', 'fetch'];
  return pgconvoy(['check', ...address, ...extra], { env: { PGPASSWORD: PASSWORD, PGSSLMODE: 'disable' } });
}

/** The verdict ("ok", "no", "not ok") and what follows, of one need. */
function lineOf({ stdout }: RunResult, name: string): { verdict: string; finding: string; remedy: string } {
  const lines = stdout.split('\n');
  const at = lines.findIndex((line) => line.slice(9).startsWith(`${name}: `));
  assert.ok(at >= 0, stdout);
  const line = lines[at] ?? '';
  const next = lines[at + 1] ?? '';
  return {
    verdict: line.slice(0, 9).trim(),
    finding: line.slice(9 + name.length + 2),
    remedy: next.startsWith(' '.repeat(9)) ? next.trim() : '',
  };
}

function freeConnections(result: RunResult): number {
  const { finding } = lineOf(result, 'connections');
  return Number(/\((\d+) are free\)/.exec(finding)?.[1] ?? assert.fail(finding));
}

/** A session that keeps a parallel worker busy besides itself. */
async function holdWorker(t: TestContext, server: EmbeddedServer, major: Major): Promise<void> {
  const client = await connect(server);
  cleanup(t, () => client.end());
  const setting = major >= 16 ? 'debug_parallel_query' : 'force_parallel_mode';
  await client.query(`SET ${setting} = on`);
  const [backend] = (await client.query<{ pid: number }>('SELECT pg_backend_pid() AS pid')).rows;
  cleanup(t, async () => {
    await sql(server, 'SELECT pg_cancel_backend($1)', [backend?.pid]);
  });
  client.query('SELECT pg_sleep(600)').catch(() => undefined);
  const workers = "SELECT FROM pg_stat_activity WHERE backend_type = 'parallel worker'";
  while ((await sql(server, workers)).length === 0);
}

/** How many sessions the server lets the role have at once. */
async function possibleConnections(server: EmbeddedServer): Promise<number> {
  const clients: Client[] = [];
  try {
    for (;;) clients.push(await connect(server, { user: ROLE, password: PASSWORD }));
  } catch (error) {
    assert.match(String((error as { code?: string }).code), /^53300$/);
    return clients.length;
  } finally {
    await Promise.all(clients.map((client) => client.end()));
  }
}

for (const major of [13, 18] satisfies Major[]) {
  const reserved = major >= 16 ? { reserved_connections: '2' } : {};
  test(`the connections that are free are those that the server lets in: PostgreSQL ${major}`, async (t) => {
    const settings = { max_connections: '14', max_worker_processes: '2', ...reserved };
    const server = await stageFor(t, major, settings);
    await holdWorker(t, server, major);
    await sql(server, `GRANT pg_monitor TO ${ROLE}`);
    const free = freeConnections(await check(server, '-j', '1'));
    // the one that asks is one of them; of a backup's, one is the watch's
    assert.equal(await possibleConnections(server), free + 1);
    const exact = await check(server, '-j', String(free - 1));
    assert.equal(exact.status, 0, exact.stdout);

    // without the right to see what they are, the session and its worker are two sessions, one of them at least a client
    await sql(server, `REVOKE pg_monitor FROM ${ROLE}`);
    const unsure = await check(server, '-j', String(free - 1));
    assert.equal(unsure.status, 0, unsure.stdout);
    assert.equal(lineOf(unsure, 'connections').verdict, 'no');
    assert.equal(lineOf(unsure, 'connections').remedy, 'GRANT pg_read_all_stats TO "backup";');
    assert.equal(freeConnections(await check(server, '-j', String(free - 2))), free - 1);

    await sql(server, `GRANT pg_read_all_stats TO ${ROLE}`);
    const target = await newTarget(t);
    const address = [
      '--source=sql',
      '-h',
      server.host,
      '-p',
      String(server.port),
      '-U',
      ROLE,
      '-w',
      '-X',
      'fetch',
    ];
    const env = { PGPASSWORD: PASSWORD, PGSSLMODE: 'disable' };
    const refused = await pgconvoy(['backup', '-D', target, ...address, '-j', '20'], { env });
    assertFailed(refused, {
      error: new RegExp(`^too few connections left on the server: 21 are needed, ${free} are free$`),
      hint: new RegExp(`^use fewer jobs \\(-j\\), or: ALTER SYSTEM SET max_connections = ${14 + 21 - free};`),
    });
    await assertAbsent(target);

    for (const [kind, name] of [
      ['ROLE', ROLE],
      ['DATABASE', 'postgres'],
    ] as const) {
      // the superuser's session is in the database, too
      const others = kind === 'ROLE' ? 0 : 1;
      await sql(server, `ALTER ${kind} ${name} CONNECTION LIMIT ${3 + others}`);
      assert.equal(await possibleConnections(server), 3);
      const limited = await check(server, '-j', '2');
      assert.equal(limited.status, 1);
      const { verdict, finding, remedy } = lineOf(limited, 'connections');
      assert.equal(verdict, 'not ok');
      assert.equal(
        finding,
        `too few connections left for ${kind.toLowerCase()} "${name}": 3 are needed, 2 are free`,
      );
      const mend = /ALTER .*;/.exec(remedy)?.[0] ?? assert.fail(remedy);
      await sql(server, mend);
      assert.equal((await check(server, '-j', '2')).status, 0);
    }
  });
}

test('REPLICATION and a slot are told apart, and mended by what is printed', async (t) => {
  const server = await stageFor(t, 18, { max_replication_slots: '1', idle_replication_slot_timeout: '5min' });
  const without = await check(server, '-j', '1');
  assert.equal(without.status, 0, without.stdout);
  const { verdict, remedy } = lineOf(without, 'REPLICATION');
  assert.equal(verdict, 'no');
  await sql(server, remedy);
  const idle = await check(server, '-j', '1');
  assert.equal(lineOf(idle, 'REPLICATION').verdict, 'ok');
  assert.match(lineOf(idle, 'slot').finding, /^idle_replication_slot_timeout is 5min: no slot is used/);
  for (const statement of lineOf(idle, 'slot').remedy.split(/(?<=;) /)) await sql(server, statement);
  const free = await check(server, '-j', '1');
  assert.equal(lineOf(free, 'slot').finding, '1 of 1 are free');
  await sql(server, "SELECT pg_create_physical_replication_slot('taken')");
  const taken = lineOf(await check(server, '-j', '1'), 'slot');
  assert.equal(taken.verdict, 'no');
  assert.match(taken.remedy, /^ALTER SYSTEM SET max_replication_slots = 2;/);
});

test('a target is judged by what a backup would write there, WAL included', async (t) => {
  const server = await stageFor(t, 15, { autovacuum: 'off' });
  const place = await server.makeDirectory(path.join(await temporaryDirectory(t), 'space'));
  await sql(server, `CREATE TABLESPACE space LOCATION '${place}'`);
  await sql(
    server,
    "CREATE TABLE far TABLESPACE space AS SELECT repeat('x', 900) FROM generate_series(1, 20000)",
  );
  // nothing of it is copied
  await sql(
    server,
    "CREATE UNLOGGED TABLE passing AS SELECT repeat('x', 900) FROM generate_series(1, 60000)",
  );
  await sql(server, 'CHECKPOINT');
  const elsewhere = path.join(await temporaryDirectory(t), 'space');
  const [logged] = await sql<{ bytes: string }>(server, "SELECT pg_relation_size('passing') AS bytes");
  const data = (await blocksOf(server.dataDirectory)) - Number(logged?.bytes);
  const judged = async (bytes: number, ...extra: string[]): Promise<RunResult | undefined> => {
    const disk = await smallDisk(t, bytes);
    return disk === undefined ? undefined : check(server, '-j', '1', '-D', path.join(disk, 'new'), ...extra);
  };
  const moved = ['-T', `${place}=${elsewhere}`];

  const enough = await judged(data + 20 * MiB, ...moved);
  if (enough === undefined) return;
  assert.equal(enough.status, 0, enough.stdout);
  assert.equal(lineOf(enough, 'target').verdict, 'ok');
  assert.equal(lineOf(enough, 'free space').verdict, 'ok');
  assert.equal(lineOf(enough, 'free space with max_wal_size of WAL').verdict, 'no');

  const noRoomForWal = await judged(data + 8 * MiB, ...moved);
  assert.equal(noRoomForWal?.status, 1);
  const { verdict, finding } = lineOf(noRoomForWal, 'free space');
  assert.equal(verdict, 'not ok');
  assert.match(finding, /^not enough free space at "[^"]+": \d+ MB are needed, \d+ MB are free$/);

  const taken = await check(server, '-j', '1', '-D', await temporaryDirectory(t));
  assert.equal(taken.status, 1);
  assert.equal(lineOf(taken, 'target').finding, `directory "${place}" exists but is not empty`);
  await fs.mkdir(elsewhere);
  await fs.writeFile(path.join(elsewhere, 'something'), '');
  const full = await check(server, '-j', '1', '-D', await newTarget(t), ...moved);
  assert.equal(lineOf(full, 'target').finding, `directory "${elsewhere}" exists but is not empty`);
});
