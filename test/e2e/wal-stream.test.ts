/*
 * -X stream: backups whose WAL is streamed while the server writes and recycles it as fast as it can start from their own
 * pg_wal alone; what streaming needs of a server is told before anything is done; and slots are as pg_basebackup has them.
 */
import assert from 'node:assert/strict';
import * as fs from 'node:fs/promises';
import path from 'node:path';
import { before, test, type TestContext } from 'node:test';
import type { EmbeddedServer } from '../../src/demo/embedded-server.js';
import { neededFunctions } from '../../src/source/sql-grants.js';
import { fileScope, until } from '../server/test-serve.js';
import { temporaryDirectory } from '../support/cleanup.js';
import { pgconvoy } from '../support/pgconvoy.js';
import { connect, sql, type Major } from '../support/postgres.js';
import { checkRestored, startRestored, verifyBackup } from '../support/restored.js';
import { requireTool, run, type RunResult } from '../support/tools.js';
import { WalFlood } from '../support/wal-flood.js';
import { startWorkload } from '../support/workload.js';
import {
  addTable,
  assertAbsent,
  assertFailed,
  BACKUP_ENVIRONMENT,
  newTarget,
  setStage,
  startBackup,
  takeBackup,
  untilCopying,
  untilOutOfBackupMode,
  type Address,
  type Stage,
} from './stage.js';

/** What DESIGN promises is less; the rest is for a machine that is busy with other tests. */
const END_LIMIT_MS = 5000;

const SOURCES = ['walsender', 'sql'] as const;
type Source = (typeof SOURCES)[number];

interface Slot {
  readonly slot_name: string;
  readonly temporary: boolean;
  readonly active: boolean;
  readonly restart_lsn: string | null;
}

function slotsOf(server: EmbeddedServer): Promise<Slot[]> {
  return sql<Slot>(
    server,
    'SELECT slot_name, temporary, active, restart_lsn FROM pg_replication_slots ORDER BY 1',
  );
}

/** Options of a role that may take a backup, and the way to the server. */
function addressOf({ server, serve }: Stage, source: Source): Address {
  return source === 'sql' ? server : serve;
}

async function grantSql({ server }: Stage, major: Major): Promise<void> {
  const grants = neededFunctions(major).map((name) => `GRANT EXECUTE ON FUNCTION ${name} TO backup`);
  await sql(server, grants.join('; '));
}

async function segmentsIn(directory: string): Promise<string[]> {
  const names = await fs.readdir(path.join(directory, 'pg_wal'));
  return names.filter((name) => /^[0-9A-F]{24}$/.test(name)).toSorted();
}

/** The names of all files of pg_wal and archive_status. */
async function walNames(directory: string): Promise<string[]> {
  const names = await fs.readdir(path.join(directory, 'pg_wal'), { recursive: true });
  return names.toSorted();
}

for (const [major, segmentMegabytes] of [
  [13, 1],
  [15, 16],
  [18, 64],
] as const satisfies (readonly [Major, number])[]) {
  test(`WAL that the server recycles at once is in the backup: PostgreSQL ${major}, segments of ${segmentMegabytes} MB`, async (t) => {
    const walSize = `${Math.max(5 * segmentMegabytes, 32)}MB`;
    const stage = await setStage(t, {
      major,
      initdbArguments: [`--wal-segsize=${segmentMegabytes}`],
      settings: { wal_keep_size: '0', min_wal_size: walSize, max_wal_size: walSize },
    });
    const { server } = stage;
    await grantSql(stage, major);
    await addTable(server, 'bulk', 24);
    const workload = await startWorkload(server);
    const flood = await WalFlood.start(server);
    for (const source of SOURCES) {
      const target = await newTarget(t);
      const extra = [`--source=${source}`, '-s', '1', '-r', '18M', '-j', '2', '-v'];
      const running = startBackup(t, addressOf(stage, source), target, extra);
      await running.printed(/created temporary replication slot "pgconvoy_[0-9a-f]{16}"/);
      await until('the slot follows what has been received', async () => {
        const [slot, ...others] = await slotsOf(server);
        assert.deepEqual(others, []);
        assert.equal(slot?.temporary, true);
        const [passed] = await sql<{ passed: boolean }>(
          server,
          `SELECT restart_lsn > pg_walfile_lsn AS passed FROM pg_replication_slots,
             LATERAL (SELECT $1::pg_lsn AS pg_walfile_lsn) AS start`,
          [await startLsn(running)],
        );
        return passed?.passed === true;
      });
      const { status, stderr } = await running.ended;
      assert.equal(status, 0, stderr);
      const stopLsn = /write-ahead log end point: (\S+)/.exec(stderr)?.[1] ?? '';
      const highestCommitted = workload.committedBy(stopLsn);
      assert.ok(highestCommitted > 0);
      await untilOutOfBackupMode(server);

      const segments = await segmentsIn(target);
      assert.ok(segments.length >= 3, 'WAL was written meanwhile');
      for (const name of segments) {
        const { size } = await fs.stat(path.join(target, 'pg_wal', name));
        assert.equal(size, segmentMegabytes * 1024 * 1024, name);
      }
      await verifyBackup(t, target, major);
      const manifest = await fs.readFile(path.join(target, 'backup_manifest'), 'utf8');
      assert.doesNotMatch(manifest, /"Path": "pg_wal\//);
      const restored = await startRestored(t, {
        dir: target,
        origin: server,
        settings: { restore_command: '' },
      });
      await checkRestored(t, restored, { highestCommitted });
      await restored.stop();
    }
    await flood.stop();
    await workload.stop();
  });
}

/** The start of the backup, once it is known. */
async function startLsn(running: ReturnType<typeof startBackup>): Promise<string> {
  const pattern = /write-ahead log start point: (\S+)/;
  await running.printed(pattern);
  return pattern.exec(running.stderr)?.[1] ?? '';
}

const scope = fileScope();
let stage: Stage;
before(async () => {
  stage = await setStage(scope, {
    settings: {
      autovacuum: 'off',
      max_replication_slots: '3',
      max_wal_senders: '4',
      restore_command: 'false',
    },
  });
  await grantSql(stage, 15);
  await addTable(stage.server, 'bulk', 20);
});

test('pg_wal is what pg_basebackup leaves of an idle server, byte by byte, on a later timeline, too', async (t) => {
  const command = requireTool(t, 'pg_basebackup');
  if (command === undefined) return;
  const { server } = stage;
  for (const timeline of [1, 2]) {
    if (timeline === 2) await switchTimeline(server);
    const theirs = await newTarget(t);
    const flags = ['-D', theirs, '-d', server.conninfo, '-c', 'fast', '-N', '-X', 'stream'];
    const taken = await run(command, flags);
    assert.equal(taken.status, 0, taken.stderr);
    const expected = withoutSegments(await walNames(theirs));
    for (const source of SOURCES) {
      const target = await newTarget(t);
      const { status, stderr } = await takeBackup(addressOf(stage, source), target, [`--source=${source}`]);
      assert.equal(status, 0, stderr);
      const found = await walNames(target);
      assert.deepEqual(withoutSegments(found), expected, source);
      for (const name of await segmentsIn(target)) {
        assert.ok(found.includes(`archive_status/${name}.done`), name);
      }
      const names = [...(await segmentsIn(target)), ...(timeline === 1 ? [] : ['00000002.history'])];
      for (const name of names) {
        const [ours, servers] = await Promise.all(
          [target, server.dataDirectory].map((place) => fs.readFile(path.join(place, 'pg_wal', name))),
        );
        assert.ok(ours?.equals(servers ?? Buffer.alloc(0)), name);
      }
      await verifyBackup(t, target, 15);
    }
    const [theirArchive, ourArchive] = [await newTarget(t), await newTarget(t)];
    const packed = await run(command, ['-Ft', '-D', theirArchive, ...flags.slice(2)]);
    assert.equal(packed.status, 0, packed.stderr);
    assert.equal((await takeBackup(stage.serve, ourArchive, ['-Ft'])).status, 0);
    const [expectedMembers, members] = await Promise.all([theirArchive, ourArchive].map(membersOfWalArchive));
    assert.deepEqual(members, expectedMembers);
  }
});

/** As tar shows them, without their times and without which segment it is. */
async function membersOfWalArchive(directory: string): Promise<string[]> {
  const archive = path.join(directory, 'pg_wal.tar');
  const { status, stdout, stderr } = await run('tar', ['-tvf', archive, '--numeric-owner']);
  assert.equal(status, 0, stderr);
  const lines = stdout.split('\n').filter((line) => !/archive_status\/[0-9A-F]{24}\.done$/.test(line));
  return lines.map((line) => line.replace(/ +/g, ' ').replace(/\d{4}-\S+ \S+ (?:[0-9A-F]{24}$)?/, ''));
}

/**
 * Which segment it is differs, and whether pg_basebackup has marked it: it stops wherever the end of the backup finds it, in
 * the middle of the segment or after it.
 */
function withoutSegments(names: readonly string[]): string[] {
  const marked = /^archive_status\/[0-9A-F]{24}\.done$/;
  return names.filter((name) => !marked.test(name)).map((name) => name.replace(/[0-9A-F]{24}/, 'SEGMENT'));
}

/** Ends a recovery that has nothing to recover. */
async function switchTimeline(server: EmbeddedServer): Promise<void> {
  await server.stop();
  const signal = path.join(server.dataDirectory, 'recovery.signal');
  await fs.writeFile(signal, '');
  if (server.account !== undefined) await fs.chown(signal, server.account.uid, server.account.gid);
  await server.start();
  await until('recovery has ended', async () => {
    const [row] = await sql<{ over: boolean }>(server, 'SELECT NOT pg_is_in_recovery() AS over');
    return row?.over === true;
  });
}

test('a slot with a name is used and stays, one that is created, too; without one there is none', async (t) => {
  const { server, serve } = stage;
  const take = async (...extra: string[]): Promise<RunResult & { readonly target: string }> => {
    const target = await newTarget(t);
    return { ...(await takeBackup(serve, target, extra)), target };
  };
  const missing = await take('-S', 'mine');
  assertFailed(missing, {
    error:
      /^could not send replication command "START_REPLICATION": ERROR: +replication slot "mine" does not exist$/,
  });
  await assertAbsent(missing.target);

  const created = await take('-S', 'mine', '-C', '-v', '-R');
  assert.equal(created.status, 0, created.stderr);
  assert.match(created.stderr, /^pgconvoy: created replication slot "mine"$/m);
  const settings = await fs.readFile(path.join(created.target, 'postgresql.auto.conf'), 'utf8');
  assert.match(settings, /^primary_slot_name = 'mine'$/m);
  const [mine, ...others] = await slotsOf(server);
  assert.deepEqual(others, []);
  assert.deepEqual([mine?.slot_name, mine?.temporary, mine?.active], ['mine', false, false]);
  assert.notEqual(mine?.restart_lsn, null);

  const again = await take('-S', 'mine', '-C');
  assertFailed(again, {
    error:
      /^could not send replication command "CREATE_REPLICATION_SLOT": ERROR: +replication slot "mine" already exists$/,
  });
  await assertAbsent(again.target);
  const used = await take('-S', 'mine');
  assert.equal(used.status, 0, used.stderr);
  assert.equal((await slotsOf(server)).length, 1);
  await sql(server, "SELECT pg_drop_replication_slot('mine')");

  const target = await newTarget(t);
  const running = startBackup(t, serve, target, ['--no-slot', '-r', '16M']);
  await untilCopying(running, target);
  assert.deepEqual(await slotsOf(server), []);
  assert.equal((await running.ended).status, 0);

  // as with pg_basebackup, a slot that was asked for is there even if the backup is not
  const failed = await newTarget(t);
  const failing = startBackup(t, serve, failed, ['-S', 'mine', '-C', '-r', '1M']);
  await untilCopying(failing, failed);
  assertFailed(await failing.endBy('SIGINT'), { error: /^interrupted by SIGINT$/ });
  await assertAbsent(failed);
  assert.equal((await slotsOf(server))[0]?.slot_name, 'mine');
  await until('it can be dropped', async () => (await slotsOf(server))[0]?.active === false);
  await sql(server, "SELECT pg_drop_replication_slot('mine')");
});

for (const source of SOURCES) {
  test(`a walsender that is ended during the copy ends the backup: source ${source}`, async (t) => {
    const { server } = stage;
    const target = await newTarget(t);
    const running = startBackup(t, addressOf(stage, source), target, [`--source=${source}`, '-r', '1M']);
    await untilCopying(running, target);
    const killedAt = performance.now();
    const killed = await sql(
      server,
      "SELECT pg_terminate_backend(pid) FROM pg_stat_replication WHERE application_name = 'pgconvoy wal'",
    );
    assert.equal(killed.length, 1);
    assertFailed(await running.ended, {
      error:
        /^could not receive data from WAL stream: FATAL: +terminating connection due to administrator command$/,
      hint: /^if nobody has ended the session, the slot that holds the WAL was invalidated: raise max_slot_wal_keep_size /,
    });
    assert.ok(performance.now() - killedAt < END_LIMIT_MS);
    await assertAbsent(target);
    await untilOutOfBackupMode(server);
  });
}

test('a slot that is dropped during the copy ends the backup', async (t) => {
  const { server, serve } = stage;
  await sql(server, "SELECT pg_create_physical_replication_slot('dropped', true)");
  const target = await newTarget(t);
  const running = startBackup(t, serve, target, ['-S', 'dropped', '-r', '1M']);
  await untilCopying(running, target);
  const droppedAt = performance.now();
  await sql(
    server,
    "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = 'dropped'",
  );
  await until('it can be dropped', async () => (await slotsOf(server))[0]?.active === false);
  await sql(server, "SELECT pg_drop_replication_slot('dropped')");
  assertFailed(await running.ended, {
    error:
      /^could not receive data from WAL stream: FATAL: +terminating connection due to administrator command$/,
    hint: /^if nobody has ended the session, the slot that holds the WAL was invalidated/,
  });
  assert.ok(performance.now() - droppedAt < END_LIMIT_MS);
  await assertAbsent(target);
  await untilOutOfBackupMode(server);
});

interface Lacking {
  readonly name: string;
  /** Takes something away; returns what gives it back. */
  readonly take: (t: TestContext, server: EmbeddedServer) => Promise<() => Promise<unknown>>;
  /** Sources that see it, and `check`, too: the line of what is missing. */
  readonly sources: readonly Source[];
  readonly line: string;
  readonly error: RegExp;
  readonly hint: RegExp;
}

const LACKING: readonly Lacking[] = [
  {
    name: 'a role without REPLICATION',
    take: async (_t, server) => {
      await sql(server, 'ALTER ROLE backup NOREPLICATION');
      return () => sql(server, 'ALTER ROLE backup REPLICATION');
    },
    sources: ['sql'],
    line: 'REPLICATION',
    error: /^the role lacks REPLICATION, which -X stream needs$/,
    hint: /^ALTER ROLE "backup" REPLICATION; -- or take the WAL at the end with -X fetch$/,
  },
  {
    name: 'a server without a free slot',
    take: async (_t, server) => {
      const slots = 'generate_series(1, 3) AS n';
      await sql(server, `SELECT pg_create_physical_replication_slot('taken_' || n) FROM ${slots}`);
      return () => sql(server, `SELECT pg_drop_replication_slot('taken_' || n) FROM ${slots}`);
    },
    sources: ['sql', 'walsender'],
    line: 'slot',
    error:
      /^(?:no replication slot is free, and -X stream makes one|could not send .*: ERROR: +all replication slots are in use)$/,
    hint: /max_replication_slots.*--no-slot$/,
  },
  {
    name: 'a server without a free walsender',
    take: async (_t, server) => {
      const held = await Promise.all(
        [1, 2, 3, 4].map(() => connect(server, { replication: 'true' } as object)),
      );
      return () => Promise.all(held.map((client) => client.end()));
    },
    sources: ['sql'],
    line: 'walsender',
    error: /^no walsender is free for -X stream: max_wal_senders is 4$/,
    hint: /^ALTER SYSTEM SET max_wal_senders = 5; -- and restart the server, or take .* with -X fetch$/,
  },
  {
    name: 'a server whose pg_hba.conf lets no replication in',
    take: async (_t, server) => {
      const file = path.join(server.dataDirectory, 'pg_hba.conf');
      const text = await fs.readFile(file, 'utf8');
      const load = async (content: string): Promise<void> => {
        await fs.writeFile(file, content);
        await sql(server, 'SELECT pg_reload_conf()');
      };
      await load(`host replication all all reject\n${text}`);
      return () => load(text);
    },
    sources: ['sql'],
    line: 'replication connection',
    error:
      /^connection to server at "127\.0\.0\.1", port \d+ failed: FATAL: +pg_hba\.conf rejects replication connection /,
    hint: /^let pg_hba\.conf allow replication connections .*-X fetch$/,
  },
];

for (const { name, take, sources, line, ...expected } of LACKING) {
  test(`${name} is one clear error before anything is done, and -X fetch a way out`, async (t) => {
    const { server } = stage;
    const giveBack = await take(t, server);
    try {
      const way = ['-h', server.host, '-p', String(server.port), '-w', '-j', '1'];
      const checked = await pgconvoy(['check', ...way], { env: BACKUP_ENVIRONMENT });
      assert.equal(checked.status, 1);
      assert.match(checked.stdout, new RegExp(`^not ok +${line}: `, 'm'));
      const fetching = await pgconvoy(['check', ...way, '-X', 'fetch'], { env: BACKUP_ENVIRONMENT });
      assert.equal(fetching.status, 0, fetching.stdout);
      for (const source of sources) {
        const target = await newTarget(t);
        const flags = [`--source=${source}`, '-j', '1'];
        assertFailed(await takeBackup(addressOf(stage, source), target, flags), expected);
        await assertAbsent(target);
        const fetched = await takeBackup(addressOf(stage, source), target, [...flags, '-X', 'fetch']);
        assert.equal(fetched.status, 0, fetched.stderr);
      }
    } finally {
      await giveBack();
    }
    await untilOutOfBackupMode(server);
  });
}

test('a server with all that is needed passes the check, and streams as any role that may', async (t) => {
  const { server } = stage;
  const way = ['-h', server.host, '-p', String(server.port), '-w', '-j', '1'];
  const checked = await pgconvoy(['check', ...way], { env: BACKUP_ENVIRONMENT });
  assert.equal(checked.status, 0, checked.stdout);
  for (const line of ['REPLICATION', 'slot', 'walsender', 'replication connection']) {
    assert.match(checked.stdout, new RegExp(`^ok +${line}: `, 'm'));
  }
  const directory = path.join(await temporaryDirectory(t), 'auto');
  const taken = await takeBackup(server, directory, ['--source=auto']);
  assert.equal(taken.status, 0, taken.stderr);
  assert.ok((await segmentsIn(directory)).length > 0);
});
