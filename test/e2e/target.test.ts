/*
 * Where a backup is written to: what is in the way is refused before the server is asked for anything, a full disk ends the
 * backup, and what a failed backup leaves is what was there before.
 */
import assert from 'node:assert/strict';
import * as fs from 'node:fs/promises';
import path from 'node:path';
import { before, test, type TestContext } from 'node:test';
import { canEnter, serverAccount } from '../../src/demo/server-account.js';
import { fileScope } from '../server/test-serve.js';
import { temporaryDirectory } from '../support/cleanup.js';
import { readTree } from '../support/directory-tree.js';
import { PROGRAM } from '../support/pgconvoy.js';
import { sql } from '../support/postgres.js';
import { RunningBackup } from '../support/running-backup.js';
import { blocksOf, smallDisk } from '../support/small-disk.js';
import type { RunResult } from '../support/tools.js';
import {
  assertAbsent,
  assertFailed,
  BACKUP_ENVIRONMENT,
  backupArguments,
  newTarget,
  setStage,
  startBackup,
  takeBackup,
  untilCopying,
  untilOutOfBackupMode,
  type Stage,
} from './stage.js';

const MiB = 1024 * 1024;

const scope = fileScope();
let stage: Stage;
/** Of the tablespaces. */
let places: readonly [string, string];
before(async () => {
  stage = await setStage(scope);
  const directory = await temporaryDirectory(scope);
  const { server } = stage;
  places = [
    await server.makeDirectory(path.join(directory, 'one')),
    await server.makeDirectory(path.join(directory, 'two')),
  ];
  for (const [index, place] of places.entries()) {
    await sql(server, `CREATE TABLESPACE space${index} LOCATION '${place}'`);
    await sql(
      server,
      `CREATE TABLE far${index} TABLESPACE space${index} AS SELECT n FROM generate_series(1, 999) n`,
    );
  }
});

/** -T for both tablespaces. */
function mapped(...to: readonly string[]): string[] {
  return to.flatMap((location, index) => ['-T', `${places[index]}=${location}`]);
}

test('a directory that is not empty is refused, and left as it is', async (t) => {
  const target = await newTarget(t);
  await fs.mkdir(target);
  await fs.writeFile(path.join(target, 'precious'), 'do not touch');
  const found = await readTree(target);
  assertFailed(await takeBackup(stage.serve, target), {
    error: /^directory ".*\/backup" exists but is not empty$/,
    hint: /remove or empty it/,
  });
  assert.deepEqual(await readTree(target), found);
});

test('a file and a link to nowhere are refused, and left as they are', async (t) => {
  const target = await newTarget(t);
  await fs.writeFile(target, 'do not touch');
  assertFailed(await takeBackup(stage.serve, target), {
    error: /"[^"]*\/backup" exists but is not a directory$/,
  });
  assert.equal(await fs.readFile(target, 'utf8'), 'do not touch');

  const link = await newTarget(t);
  await fs.symlink('nowhere', link);
  assertFailed(await takeBackup(stage.serve, link, mapped(...(await twoTargets(t)))), {
    error: /"[^"]*\/backup"/,
  });
  assert.equal(await fs.readlink(link), 'nowhere');
});

test('a parent that may not be written to is named', async (t) => {
  const account = await serverAccount();
  if (
    !(await canEnter(path.dirname(PROGRAM), account)) ||
    !(await canEnter(path.dirname(process.execPath), account))
  ) {
    t.skip('the program is out of reach for other accounts');
    return;
  }
  const parent = await temporaryDirectory(t);
  await fs.chmod(parent, 0o555);
  const target = path.join(parent, 'backup');
  const args = backupArguments(stage.serve, target, mapped(...(await twoTargets(t))));
  const result = await RunningBackup.start(t, args, { env: BACKUP_ENVIRONMENT, account }).ended;
  assertFailed(result, { error: /^could not create directory ".*\/backup": Permission denied$/ });
  assert.deepEqual(await fs.readdir(parent), []);
  await untilOutOfBackupMode(stage.server);
});

test('a tablespace whose place is not empty is refused, and nothing is touched', async (t) => {
  const target = await newTarget(t);
  const [one, two] = await twoTargets(t);
  await fs.mkdir(two, { recursive: true });
  await fs.writeFile(path.join(two, 'precious'), 'do not touch');
  const expected = { hint: /remove or empty it/ };
  const result = await takeBackup(stage.serve, target, mapped(one, two));
  assertFailed(result, { ...expected, error: new RegExp(`^directory "${two}" exists but is not empty$`) });
  assert.equal(await fs.readFile(path.join(two, 'precious'), 'utf8'), 'do not touch');
  for (const file of [target, one]) await assertAbsent(file);

  // without -T it would go where the server has it
  const unmapped = await takeBackup(stage.serve, target);
  assertFailed(unmapped, {
    ...expected,
    error: new RegExp(`^directory "${places[0]}" exists but is not empty$`),
  });
  await assertAbsent(target);
  await untilOutOfBackupMode(stage.server);
  assert.deepEqual(await sql(stage.server, 'SELECT count(*)::int AS count FROM far0'), [{ count: 999 }]);
});

test('tablespaces that would lie in each other are refused', async (t) => {
  const target = await newTarget(t);
  const [one, two] = await twoTargets(t);
  for (const to of [
    [one, one],
    [one, path.join(one, 'below')],
    [target, two],
    [path.dirname(target), two],
  ]) {
    const result = await takeBackup(stage.serve, target, mapped(...to));
    assertFailed(result, { error: /^tablespace directory ".*" overlaps ".*"$/, hint: /-T OLD=NEW/ });
    for (const file of [target, one, two]) await assertAbsent(file);
  }
  await untilOutOfBackupMode(stage.server);
});

test('a mapping for a tablespace that is not there is a warning', async (t) => {
  const target = await newTarget(t);
  const [one, two] = await twoTargets(t);
  const result = await takeBackup(stage.serve, target, [
    ...mapped(one, two),
    '-T',
    '/no/such/place=/elsewhere',
  ]);
  assert.equal(result.status, 0, result.stderr);
  assert.match(result.stderr, /^pgconvoy: warning: .*"\/no\/such\/place".*$/m);
  const links = await fs.readdir(path.join(target, 'pg_tblspc'));
  const leadTo = await Promise.all(links.map((link) => fs.readlink(path.join(target, 'pg_tblspc', link))));
  assert.deepEqual(leadTo.toSorted(), [one, two].toSorted());
});

test('a disk that is too small is named before anything is copied', async (t) => {
  const disk = await smallDisk(t, 4 * MiB);
  if (disk === undefined) return;
  const [one, two] = await twoTargets(t);
  const deep = path.join(disk, 'as', 'deep', 'as', 'this');
  const result = await takeBackup(stage.serve, deep, mapped(one, two));
  assertFailed(result, {
    error: new RegExp(`^not enough free space at "${disk}": \\d+ MB are needed, 4 MB are free$`),
  });
  assert.deepEqual(await fs.readdir(disk), []);
  await assertAbsent(one);
  await untilOutOfBackupMode(stage.server);
});

test('a disk that fills up ends a backup; what was there is emptied and kept, what was made for it is gone', async (t) => {
  const disk = await smallDisk(t, 100 * MiB);
  if (disk === undefined) return;
  const target = path.join(disk, 'backup');
  const [one, two] = await twoTargets(t);
  for (const directory of [target, one]) await fs.mkdir(directory, { recursive: true });
  await fs.writeFile(path.join(path.dirname(one), 'beside'), 'do not touch');
  const result = await backupOntoFillingDisk(t, disk, target, mapped(one, two));
  assertFailed(result, { error: /^could not write file "[^"]+": No space left on device$/ });
  assert.deepEqual(await fs.readdir(target), []);
  assert.deepEqual(await fs.readdir(one), []);
  await assertAbsent(two);
  assert.deepEqual(await fs.readdir(disk), ['backup', 'filler']);
  assert.equal(await fs.readFile(path.join(path.dirname(one), 'beside'), 'utf8'), 'do not touch');
  await untilOutOfBackupMode(stage.server);
});

test('a disk that is full when WAL comes ends a backup, too', async (t) => {
  const data = await blocksOf(stage.server.dataDirectory);
  // one segment is reckoned with before
  const disk = await smallDisk(t, data + 24 * MiB);
  if (disk === undefined) return;
  const target = path.join(disk, 'backup');
  const running = startBackup(t, stage.serve, target, ['-r', '16M', ...mapped(...(await twoTargets(t)))]);
  await untilCopying(running, target);
  await sql(stage.server, "SELECT pg_switch_wal() FROM pg_logical_emit_message(false, 'test', 'more')");
  assertFailed(await running.ended, {
    error: /^could not write file "[^"]+\/pg_wal\/[0-9A-F]{24}": No space left on device$/,
  });
  await assertAbsent(target);
  await untilOutOfBackupMode(stage.server);
});

test('--no-clean leaves what there is of a failed backup, and says so', async (t) => {
  const disk = await smallDisk(t, 100 * MiB);
  if (disk === undefined) return;
  const target = path.join(disk, 'as', 'deep', 'as', 'this');
  const [one, two] = await twoTargets(t);
  const result = await backupOntoFillingDisk(t, disk, target, [...mapped(one, two), '--no-clean']);
  assertFailed(result, { error: /No space left on device$/ });
  for (const directory of [target, one, two]) {
    const name = directory === target ? 'data directory' : 'tablespace directory';
    assert.ok(
      result.stderr.includes(`pgconvoy: ${name} "${directory}" not removed at user's request\n`),
      result.stderr,
    );
    assert.ok((await fs.readdir(directory)).length > 0);
  }
  await assertAbsent(path.join(target, 'backup_manifest'));
  await untilOutOfBackupMode(stage.server);
});

/** Two paths where nothing is, for the tablespaces. */
async function twoTargets(t: TestContext): Promise<[string, string]> {
  const directory = path.join(await temporaryDirectory(t), 'spaces');
  return [path.join(directory, 'one'), path.join(directory, 'two')];
}

/** A backup to a disk that somebody else fills while it copies. */
async function backupOntoFillingDisk(
  t: TestContext,
  disk: string,
  target: string,
  extra: readonly string[],
): Promise<RunResult> {
  const running = startBackup(t, stage.serve, target, ['-r', '4M', ...extra]);
  await untilCopying(running, target);
  const filler = await fs.open(path.join(disk, 'filler'), 'w');
  try {
    for (const block = Buffer.alloc(MiB); (await filler.write(block)).bytesWritten === block.length;);
    await filler.write(Buffer.alloc(MiB));
  } catch (error) {
    assert.equal((error as NodeJS.ErrnoException).code, 'ENOSPC');
  } finally {
    await filler.close();
  }
  return running.ended;
}
