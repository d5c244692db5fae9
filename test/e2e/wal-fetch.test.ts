/*
 * -X fetch through the parallel commands, on a server that recycles WAL as soon as it may: a slot holds it while the backup
 * runs, and where there is none left the backup says so.
 */
import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { fileScope } from '../server/test-serve.js';
import { sql } from '../support/postgres.js';
import { verifyBackup } from '../support/restored.js';
import {
  addTable,
  assertAbsent,
  newTarget,
  setStage,
  startBackup,
  untilCopying,
  untilOutOfBackupMode,
  type Stage,
} from './stage.js';

const scope = fileScope();
let stage: Stage;
before(async () => {
  const keep = { wal_keep_size: '0', max_wal_size: '32MB', min_wal_size: '32MB' };
  stage = await setStage(scope, { settings: { ...keep, max_replication_slots: '1' } });
  await addTable(stage.server, 'bulk', 8);
});

/** So much that segments from before are recycled, unless something holds them. */
async function recycleWal(): Promise<void> {
  for (let round = 0; round < 6; round += 1) {
    await sql(stage.server, "SELECT pg_switch_wal() FROM pg_logical_emit_message(false, 'test', 'more')");
    await sql(stage.server, 'CHECKPOINT');
  }
}

test('a slot holds the WAL while the backup runs, and goes with it', async (t) => {
  const target = await newTarget(t);
  const running = startBackup(t, stage.serve, target, ['-X', 'fetch', '-r', '16M']);
  await untilCopying(running, target);
  await recycleWal();
  const result = await running.ended;
  assert.equal(result.status, 0, result.stderr);
  assert.doesNotMatch(result.stderr, /no slot/);
  await verifyBackup(t, target, 15);
  await untilOutOfBackupMode(stage.server);
});

test('without a free slot that is said, and WAL that is gone ends the backup', async (t) => {
  await sql(stage.server, "SELECT pg_create_physical_replication_slot('taken')");
  const target = await newTarget(t);
  const running = startBackup(t, stage.serve, target, ['-X', 'fetch', '-r', '16M']);
  await untilCopying(running, target);
  await recycleWal();
  const result = await running.ended;
  assert.equal(result.status, 1);
  assert.match(
    result.stderr,
    /^pgconvoy: no slot holds the WAL of the backup: .*all replication slots are in use$/m,
  );
  assert.match(result.stderr, /error: .*(?:could not find WAL file|has already been removed)/);
  await assertAbsent(target);
});

test('a backup without WAL takes no slot', async (t) => {
  const result = await startBackup(t, stage.serve, await newTarget(t), ['-X', 'none']).ended;
  assert.equal(result.status, 0, result.stderr);
  assert.doesNotMatch(result.stderr, /no slot/);
});
