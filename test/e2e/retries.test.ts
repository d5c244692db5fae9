/*
 * Worker connections that break: their tasks are done again on new ones, up to three times, and the backup is as good as
 * any other.
 */
import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { fileScope } from '../server/test-serve.js';
import { FaultyProxy } from '../support/faulty-proxy.js';
import { startServe } from '../support/pgconvoy.js';
import { sql } from '../support/postgres.js';
import { checkRestored, startRestored, verifyBackup } from '../support/restored.js';
import {
  addTable,
  assertAbsent,
  assertFailed,
  newTarget,
  setStage,
  takeBackup,
  untilOutOfBackupMode,
  type Stage,
} from './stage.js';

const MiB = 1024 * 1024;

const scope = fileScope();
let stage: Stage;
before(async () => {
  stage = await setStage(scope);
  await addTable(stage.server, 'bulk', 30);
  await sql(
    stage.server,
    'CREATE TABLE ledger AS SELECT id, id::text AS payload FROM generate_series(1, 1000) id',
  );
});

test('a connection that is cut in the middle of a file costs one repetition, and the backup is good', async (t) => {
  // beyond the first worker's first file header, within its table of 30 MB
  const proxy = await FaultyProxy.start(t, stage.serve, (index) =>
    index === 1 ? { kind: 'cut', afterBytes: 3 * MiB } : undefined,
  );
  const target = await newTarget(t);
  const result = await takeBackup(proxy, target, ['-X', 'fetch', '-j', '2', '-P']);
  assert.equal(result.status, 0, result.stderr);
  assert.match(result.stderr, /^pgconvoy: warning: 1 task was repeated after its connection broke$/m);
  assert.equal(proxy.connections.length, 4);
  const [, done, total] = /(\d+)\/(\d+) files\n(?!.*\d+\/\d+ files)/s.exec(result.stderr) ?? [];
  assert.equal(done, total, 'what was copied twice is counted once');
  await verifyBackup(t, target, 15);
  const restored = await startRestored(t, { dir: target, origin: stage.server });
  await checkRestored(t, restored, { highestCommitted: 1000 });
});

test('several connections may be cut', async (t) => {
  const proxy = await FaultyProxy.start(t, stage.serve, (index) =>
    index >= 1 && index <= 3 ? { kind: 'cut', afterBytes: 2 * MiB } : undefined,
  );
  const target = await newTarget(t);
  const result = await takeBackup(proxy, target, ['-X', 'fetch', '-j', '3']);
  assert.equal(result.status, 0, result.stderr);
  assert.match(result.stderr, /^pgconvoy: warning: \d+ tasks were repeated after their connections broke$/m);
  await verifyBackup(t, target, 15);
});

test('a connection that is cut again and again ends the backup after three repetitions', async (t) => {
  const proxy = await FaultyProxy.start(t, stage.serve, (index) =>
    index >= 1 ? { kind: 'cut', afterBytes: MiB } : undefined,
  );
  const target = await newTarget(t);
  const result = await takeBackup(proxy, target, ['-X', 'fetch', '-j', '1']);
  assertFailed(result, { error: /^lost connection to server at "127\.0\.0\.1", port \d+: / });
  assert.equal(proxy.connections.length, 1 + 4);
  await assertAbsent(target);
  await untilOutOfBackupMode(stage.server);
});

test('a serve that has no room for the workers is named', async (t) => {
  const serve = await startServe(t, stage.server, ['--max-connections', '1']);
  const target = await newTarget(t);
  assertFailed(await takeBackup(serve, target, ['-X', 'fetch', '-j', '2']), {
    error:
      /^connection to server at "127\.0\.0\.1", port \d+ failed: FATAL: +sorry, too many clients already$/,
  });
  await assertAbsent(target);
  await untilOutOfBackupMode(stage.server);
});
