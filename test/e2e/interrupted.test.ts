/*
 * Backups that are ended from outside: by signals in each of their phases, and by the death of whatever they hang on. Each
 * ends soon, says why, leaves nothing behind, and the server is out of backup mode.
 */
import assert from 'node:assert/strict';
import * as fs from 'node:fs/promises';
import path from 'node:path';
import { before, test, type TestContext } from 'node:test';
import { CANCEL_LIMIT_MS } from '../../src/coordinator/worker-pool.js';
import { CANCEL_REQUEST_LIMIT_MS } from '../../src/wire/cancel-request.js';
import { fileScope, until } from '../server/test-serve.js';
import { FaultyProxy } from '../support/faulty-proxy.js';
import { startServe } from '../support/pgconvoy.js';
import { sql } from '../support/postgres.js';
import type { RunningBackup } from '../support/running-backup.js';
import {
  assertAbsent,
  assertFailed,
  newTarget,
  setStage,
  startBackup,
  untilCopying,
  untilOutOfBackupMode,
  type Stage,
} from './stage.js';

/** What is promised: what the backup waits for at most, and a moment to remove what it has made. */
const END_LIMIT_MS = 2000;

test('what an end waits for at most is less than is promised', () => {
  assert.ok(CANCEL_LIMIT_MS + CANCEL_REQUEST_LIMIT_MS < END_LIMIT_MS);
});

/** A spread checkpoint takes minutes with these, as long as there is something to write; nothing is ever archived. */
const SLOW = {
  checkpoint_timeout: '1h',
  checkpoint_completion_target: '0.9',
  autovacuum: 'off',
  archive_mode: 'on',
  archive_command: 'false',
};

const scope = fileScope();
let stage: Stage;
before(async () => {
  stage = await setStage(scope, { settings: SLOW });
});

/** Queries of the sessions that a backup has on the server itself. */
async function backupQueries({ server }: Stage): Promise<string[]> {
  const rows = await sql<{ query: string }>(
    server,
    "SELECT query FROM pg_stat_activity WHERE application_name LIKE 'pgconvoy%' AND state = 'active'",
  );
  return rows.map(({ query }) => query);
}

interface Phase {
  readonly name: string;
  readonly extra: readonly string[];
  /** The coordinator's connection stops passing anything to it once this many bytes have come. */
  readonly stallAfterBytes?: number;
  /** Returns when the backup is in the middle of it. */
  readonly reached: (running: RunningBackup, at: Stage, target: string, proxy: FaultyProxy) => Promise<void>;
}

const PHASES: readonly Phase[] = [
  {
    name: 'waits for a spread checkpoint',
    extra: ['-c', 'spread'],
    reached: async (running, at) => {
      await running.printed(/waiting for checkpoint to complete/);
      await until('the server runs the checkpoint', async () =>
        (await backupQueries(at)).some((query) => /backup_start|start_backup/.test(query)),
      );
    },
  },
  { name: 'copies', extra: ['-r', '1M'], reached: (running, _at, target) => untilCopying(running, target) },
  {
    name: 'waits for the archive',
    extra: ['-X', 'none'],
    reached: async (running, at) => {
      await running.printed(/waiting for the server to finish the base backup/);
      await until('the server waits for the archiver', async () =>
        (await backupQueries(at)).some((query) => /backup_stop|stop_backup/.test(query)),
      );
    },
  },
  {
    name: 'receives WAL',
    extra: ['-X', 'fetch'],
    // the file list is far smaller, a segment larger
    stallAfterBytes: 4 * 1024 * 1024,
    reached: async (_running, _at, target, proxy) => {
      const coordinator = await proxy.connection(0);
      await coordinator.struck;
      await until('a segment has begun', async () =>
        (await fs.readdir(path.join(target, 'pg_wal'))).some((name) => /^[0-9A-F]{24}$/.test(name)),
      );
    },
  },
];

async function makeDirtyPages({ server }: Stage): Promise<void> {
  await sql(server, 'DROP TABLE IF EXISTS dirty');
  await sql(server, "CREATE TABLE dirty AS SELECT repeat('x', 500) FROM generate_series(1, 20000)");
}

/** Ends a backup in this phase and looks at what it leaves. */
async function interrupt(
  t: TestContext,
  at: Stage,
  { extra, stallAfterBytes, reached }: Phase,
  signal: NodeJS.Signals,
  env: Readonly<Record<string, string>> = {},
): Promise<void> {
  await makeDirtyPages(at);
  const proxy = await FaultyProxy.start(t, at.serve, (index) =>
    index === 0 && stallAfterBytes !== undefined ? { kind: 'stall', afterBytes: stallAfterBytes } : undefined,
  );
  const target = await newTarget(t);
  const running = startBackup(t, proxy, target, ['-v', ...extra], env);
  await reached(running, at, target, proxy);
  const { afterMs, ...result } = await running.endBy(signal);
  assertFailed(result, { error: new RegExp(`^interrupted by ${signal}$`) });
  t.diagnostic(`ended after ${Math.round(afterMs)} ms`);
  assert.ok(afterMs < END_LIMIT_MS, `${afterMs} ms`);
  await assertAbsent(target);
  await untilOutOfBackupMode(at.server);
}

for (const phase of PHASES) {
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    test(`${signal} ends a backup that ${phase.name}`, (t) => interrupt(t, stage, phase, signal));
  }
}

for (const major of [13, 18] as const) {
  test(`Ctrl-C takes PostgreSQL ${major} out of backup mode, too`, async (t) => {
    const other = await setStage(t, { major, settings: SLOW });
    for (const phase of PHASES) await interrupt(t, other, phase, 'SIGINT');
  });
}

for (const major of [13, 15] as const) {
  test(`Ctrl-C over SQL takes PostgreSQL ${major} out of its wait, too`, async (t) => {
    const other = major === 15 ? stage : await setStage(t, { major, settings: SLOW });
    const { server } = other;
    const overSql = { ...other, serve: { ...other.serve, host: '127.0.0.1', port: server.port } as const };
    for (const phase of PHASES.filter(({ stallAfterBytes }) => stallAfterBytes === undefined)) {
      const extra = [...phase.extra, '--source=sql', '-U', server.user];
      await interrupt(t, overSql, { ...phase, extra }, 'SIGINT', { PGPASSWORD: server.password });
    }
  });
}

test('Ctrl-C ends a backup whose network has gone dead', async (t) => {
  const proxy = await FaultyProxy.start(t, stage.serve);
  const target = await newTarget(t);
  const running = startBackup(t, proxy, target, ['-r', '1M', '-j', '2']);
  await untilCopying(running, target);
  for (const connection of proxy.connections) connection.freeze();
  const { afterMs, ...result } = await running.endBy('SIGINT');
  assertFailed(result, { error: /^interrupted by SIGINT$/ });
  t.diagnostic(`ended after ${Math.round(afterMs)} ms`);
  assert.ok(afterMs < END_LIMIT_MS, `${afterMs} ms`);
  await assertAbsent(target);
});

test('a backup that is killed takes the server out of backup mode all the same', async (t) => {
  const target = await newTarget(t);
  const running = startBackup(t, stage.serve, target, ['-r', '1M', '-j', '2']);
  await untilCopying(running, target);
  const { status } = await running.endBy('SIGKILL');
  assert.equal(status, null);
  await untilOutOfBackupMode(stage.server);
  // nobody can take it for a backup
  for (const name of ['backup_manifest', 'backup_label', 'global/pg_control']) {
    await assertAbsent(path.join(target, name));
  }
});

test('a coordinator connection that is cut ends the backup at once', async (t) => {
  const proxy = await FaultyProxy.start(t, stage.serve);
  const target = await newTarget(t);
  const running = startBackup(t, proxy, target, ['-r', '1M', '-j', '2']);
  await untilCopying(running, target);
  const cutAt = performance.now();
  proxy.connections[0]?.cut();
  assertFailed(await running.ended, {
    error: /^lost connection to server at "127\.0\.0\.1", port \d+: .*(?:ECONNRESET|terminated unexpectedly)/,
  });
  assert.ok(performance.now() - cutAt < END_LIMIT_MS);
  await assertAbsent(target);
  await untilOutOfBackupMode(stage.server);
});

for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
  test(`serve that ends by ${signal} ends the backup, and leaves no process and no backup mode`, async (t) => {
    const serve = await startServe(t, stage.server);
    const processes = await childrenOf(serve.pid);
    assert.ok(processes.length > 0);
    const target = await newTarget(t);
    const running = startBackup(t, serve, target, ['-r', '1M', '-j', '2']);
    await untilCopying(running, target);
    const killedAt = performance.now();
    process.kill(serve.pid, signal);
    // its session processes take their leave even where it could not; which of them is heard first is chance
    const ended = await running.ended;
    const fromStream = ended.stderr.includes('WAL stream');
    assertFailed(ended, {
      error: fromStream
        ? /^could not receive data from WAL stream: FATAL: +terminating connection due to administrator command$/
        : /^FATAL: +terminating connection due to administrator command$/,
      ...(fromStream
        ? { hint: /^if nobody has ended the session, the slot that holds the WAL was invalidated/ }
        : {}),
    });
    assert.ok(performance.now() - killedAt < END_LIMIT_MS);
    await assertAbsent(target);
    await until('its processes have ended', () => processes.every((pid) => !isRunning(pid)));
    await untilOutOfBackupMode(stage.server);
  });
}

// the last: the others' server dies
test('a server that dies ends the backup', async (t) => {
  const target = await newTarget(t);
  const running = startBackup(t, stage.serve, target, ['-r', '1M', '-j', '2']);
  await untilCopying(running, target);
  const killedAt = performance.now();
  await stage.server.kill();
  // who hears of it first: the walsender behind serve, or serve itself
  assertFailed(await running.ended, {
    error:
      /^(?:could not receive data from WAL stream: )?(?:FATAL: +terminating connection |lost connection to server at "127\.0\.0\.1", port \d+)/,
  });
  assert.ok(performance.now() - killedAt < END_LIMIT_MS);
  await assertAbsent(target);
});

async function childrenOf(pid: number): Promise<number[]> {
  const text = await fs.readFile(`/proc/${pid}/task/${pid}/children`, 'utf8');
  return text
    .split(' ')
    .filter((word) => word !== '')
    .map(Number);
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
