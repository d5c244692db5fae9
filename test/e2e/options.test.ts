/* Options of `pgconvoy backup` that change the result or its pace, judged by PostgreSQL's own tools. */
import assert from 'node:assert/strict';
import * as fs from 'node:fs/promises';
import path from 'node:path';
import { before, test } from 'node:test';
import { fileScope } from '../server/test-serve.js';
import { verifyBackup } from '../support/restored.js';
import { requireTool, run } from '../support/tools.js';
import { pgconvoy } from '../support/pgconvoy.js';
import {
  BACKUP_ENVIRONMENT,
  backupArguments,
  newTarget,
  setStage,
  takeBackup,
  untilOutOfBackupMode,
  type Stage,
} from './stage.js';

const scope = fileScope();
let stage: Stage;
before(async () => {
  stage = await setStage(scope);
});

/** Names of the algorithms as the manifest has them. */
const ALGORITHMS = ['NONE', 'CRC32C', 'SHA224', 'SHA256', 'SHA384', 'SHA512'] as const;

for (const algorithm of ALGORITHMS) {
  test(`pg_verifybackup accepts a manifest with ${algorithm}`, async (t) => {
    const target = await newTarget(t);
    // in whatever case, as pg_basebackup takes it
    const result = await takeBackup(stage.serve, target, ['--manifest-checksums', algorithm.toLowerCase()]);
    assert.equal(result.status, 0, result.stderr);
    const manifest = await fs.readFile(path.join(target, 'backup_manifest'), 'utf8');
    const named = new Set([...manifest.matchAll(/"Checksum-Algorithm": "(\w+)"/g)].map(([, name]) => name));
    assert.deepEqual([...named], algorithm === 'NONE' ? [] : [algorithm]);
    await verifyBackup(t, target, 15);
  });
}

test('--manifest-force-encode writes paths as pg_basebackup does', async (t) => {
  const target = await newTarget(t);
  const result = await takeBackup(stage.serve, target, ['--manifest-force-encode']);
  assert.equal(result.status, 0, result.stderr);
  await verifyBackup(t, target, 15);
  const command = requireTool(t, 'pg_basebackup');
  if (command === undefined) return;
  const theirs = await newTarget(t);
  const args = ['-D', theirs, '-d', stage.server.conninfo, '-c', 'fast', '-N', '-X', 'none'];
  const made = await run(command, [...args, '--manifest-force-encode']);
  assert.equal(made.status, 0, made.stderr);
  const [ours, expected] = await Promise.all(
    [target, theirs].map(async (directory) => {
      const manifest = await fs.readFile(path.join(directory, 'backup_manifest'), 'utf8');
      assert.doesNotMatch(manifest, /"Path"/);
      // base/1/: nothing changes there
      const names = [...manifest.matchAll(/"Encoded-Path": "(626173652f312f\w+)"/g)].map(([, name]) => name);
      assert.ok(names.length > 100, manifest.slice(0, 500));
      return new Set(names);
    }),
  );
  assert.deepEqual(ours, expected);
});

test('--no-manifest writes none', async (t) => {
  const target = await newTarget(t);
  const result = await takeBackup(stage.serve, target, ['--no-manifest']);
  assert.equal(result.status, 0, result.stderr);
  assert.deepEqual(
    (await fs.readdir(target)).filter((name) => name.startsWith('backup_')),
    ['backup_label'],
  );
  assert.ok((await fs.stat(path.join(target, 'global', 'pg_control'))).size > 0);
});

test('a backup says nothing but what is asked for', async (t) => {
  const quiet = await takeBackup(stage.serve, await newTarget(t));
  assert.deepEqual([quiet.status, quiet.stdout, quiet.stderr], [0, '', '']);
  const target = await newTarget(t);
  const told = await takeBackup(stage.serve, target, ['-v', '-P']);
  assert.equal(told.status, 0, told.stderr);
  assert.equal(told.stdout, '');
  for (const line of [
    /^pgconvoy: initiating base backup, waiting for checkpoint to complete$/m,
    /^pgconvoy: checkpoint completed$/m,
    /^pgconvoy: write-ahead log start point: [0-9A-F]+\/[0-9A-F]+ on timeline 1$/m,
    /^pgconvoy: write-ahead log end point: [0-9A-F]+\/[0-9A-F]+$/m,
    /^pgconvoy: base backup completed$/m,
    /\d+\/\d+ kB \(100%\), [\d.]+ MB\/s, 0:00 left, (\d+)\/\1 files/,
  ]) {
    assert.match(told.stderr, line);
  }
});

test('a backup is synced unless -N is given', async (t) => {
  const syncing = /^pgconvoy: syncing data to disk \.\.\.$/m;
  const target = await newTarget(t);
  const args = backupArguments(stage.serve, target, ['-v']).filter((arg) => arg !== '-N');
  const synced = await pgconvoy(['backup', ...args], { env: BACKUP_ENVIRONMENT });
  assert.equal(synced.status, 0, synced.stderr);
  assert.match(synced.stderr, syncing);
  await verifyBackup(t, target, 15);
  const whole = await newTarget(t);
  const bySystem = backupArguments(stage.serve, whole, ['-v', '--sync-method=syncfs']);
  const syncedWhole = await pgconvoy(['backup', ...bySystem.filter((arg) => arg !== '-N')], {
    env: BACKUP_ENVIRONMENT,
  });
  assert.equal(syncedWhole.status, 0, syncedWhole.stderr);
  assert.match(syncedWhole.stderr, syncing);
  await verifyBackup(t, whole, 15);
  assert.doesNotMatch((await takeBackup(stage.serve, await newTarget(t), ['-v'])).stderr, syncing);
});

test('a label may hold anything that fits on a line', async (t) => {
  const label = String.raw`it's "ünï", 🐘 \n %s $1; DROP TABLE t -- `;
  const target = await newTarget(t);
  const result = await takeBackup(stage.serve, target, ['-l', label]);
  assert.equal(result.status, 0, result.stderr);
  const text = await fs.readFile(path.join(target, 'backup_label'), 'utf8');
  assert.ok(text.split('\n').includes(`LABEL: ${label}`), text);
});

test('-r bounds the rate of the whole backup, however many workers it has', async (t) => {
  const bytesPerSecond = 8 * 1024 * 1024;
  const target = await newTarget(t);
  const started = performance.now();
  const result = await takeBackup(stage.serve, target, ['-r', '8M', '-j', '4', '-v']);
  const seconds = (performance.now() - started) / 1000;
  assert.equal(result.status, 0, result.stderr);
  let bytes = 0;
  for (const entry of await fs.readdir(target, { recursive: true, withFileTypes: true })) {
    // WAL that is streamed is not bounded, as in pg_basebackup
    if (entry.isFile() && path.basename(entry.parentPath) !== 'pg_wal')
      bytes += (await fs.stat(path.join(entry.parentPath, entry.name))).size;
  }
  assert.ok(bytes > 2 * bytesPerSecond, `${bytes} bytes are too few for a test`);
  // an eighth of a second may be made up for
  assert.ok(seconds > bytes / bytesPerSecond - 0.25, `${bytes} bytes in ${seconds} s`);
  await untilOutOfBackupMode(stage.server);
});
