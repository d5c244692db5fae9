/*
 * Backups as archives, and to standard output, that meet trouble: connections that break, disks that fill up, signals, readers
 * who leave or stop. Archives hold nothing twice, and what fails leaves nothing behind.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import * as fs from 'node:fs/promises';
import path from 'node:path';
import { before, test } from 'node:test';
import { fileScope, until } from '../server/test-serve.js';
import { cleanup, temporaryDirectory } from '../support/cleanup.js';
import { canUnpack, extractArchives } from '../support/extracted-archives.js';
import { FaultyProxy } from '../support/faulty-proxy.js';
import { PROGRAM } from '../support/pgconvoy.js';
import { sql } from '../support/postgres.js';
import { smallDisk, smallExt4 } from '../support/small-disk.js';
import { verifyBackup } from '../support/restored.js';
import { run, type RunResult } from '../support/tools.js';
import {
  addTable,
  assertAbsent,
  assertFailed,
  backupArguments,
  BACKUP_ENVIRONMENT,
  newTarget,
  setStage,
  startBackup,
  takeBackup,
  untilOutOfBackupMode,
  type Address,
  type Stage,
} from './stage.js';

const MiB = 1024 * 1024;

const scope = fileScope();
let stage: Stage;
before(async () => {
  stage = await setStage(scope);
  await addTable(stage.server, 'bulk', 30);
});

/** `pgconvoy backup -Ft -D - | <reader>`, the reader in a shell; the status is pgconvoy's. */
function pipeTo(reader: string, address: Address, extra: readonly string[] = []): Promise<RunResult> {
  const args = [PROGRAM, 'backup', ...backupArguments(address, '-', ['-Ft', '-X', 'fetch', ...extra])];
  const script = `set -o pipefail; "$@" | ${reader}; exit "\${PIPESTATUS[0]}"`;
  return run('bash', ['-c', script, 'bash', process.execPath, ...args], { env: BACKUP_ENVIRONMENT });
}

async function assertNothingTwice(archive: string): Promise<void> {
  const listed = await run('tar', ['-t', '-f', archive]);
  assert.equal(listed.status, 0, listed.stderr);
  const names = listed.stdout.split('\n').slice(0, -1);
  assert.equal(new Set(names).size, names.length);
}

for (const [ending, compression] of [
  ['.tar', []],
  ['.gz', ['-z']],
  ['.zst', ['-Z', 'zstd']],
] as const) {
  test(`connections that are cut leave no member twice: ${compression.join(' ') || 'uncompressed'}`, async (t) => {
    if (!(await canUnpack(ending))) return t.skip(`nothing here unpacks ${ending}`);
    const proxy = await FaultyProxy.start(t, stage.serve, (index) =>
      index >= 1 && index <= 3 ? { kind: 'cut', afterBytes: 3 * MiB } : undefined,
    );
    const target = await newTarget(t);
    const result = await takeBackup(proxy, target, ['-Ft', '-j', '3', '-X', 'fetch', ...compression]);
    assert.equal(result.status, 0, result.stderr);
    assert.match(
      result.stderr,
      /^pgconvoy: warning: \d+ tasks were repeated after their connections broke$/m,
    );
    await assertNothingTwice(path.join(target, ending === '.tar' ? 'base.tar' : `base.tar${ending}`));
    const { dir } = await extractArchives(t, target);
    await verifyBackup(t, dir, 15);
  });
}

test('standard output is one archive, the manifest its last member', async (t) => {
  const directory = await temporaryDirectory(t);
  const archive = path.join(directory, 'all.tar');
  const result = await pipeTo(`cat > '${archive}'`, stage.serve, ['-j', '3', '-v', '-P']);
  assert.equal(result.status, 0, result.stderr);
  await assertNothingTwice(archive);
  const listed = await run('tar', ['-t', '-f', archive]);
  assert.match(listed.stdout, /\nbackup_manifest\n$/);
  const dir = path.join(directory, 'data');
  await fs.mkdir(dir, { mode: 0o700 });
  const unpacked = await run('tar', ['-x', '-f', archive, '-C', dir]);
  assert.deepEqual([unpacked.status, unpacked.stderr], [0, '']);
  await verifyBackup(t, dir, 15);
});

test('standard output may be a file, and compressed', async (t) => {
  const directory = await temporaryDirectory(t);
  const archive = path.join(directory, 'all.tar.gz');
  const args = [
    PROGRAM,
    'backup',
    ...backupArguments(stage.serve, '-', ['-Ft', '-X', 'none', '-Z', 'gzip:1']),
  ];
  const script = `"$@" > '${archive}'`;
  const result = await run('bash', ['-c', script, 'bash', process.execPath, ...args], {
    env: BACKUP_ENVIRONMENT,
  });
  assert.equal(result.status, 0, result.stderr);
  const unpacked = await run('tar', ['-x', '-z', '-f', archive, '-C', directory]);
  assert.deepEqual([unpacked.status, unpacked.stderr], [0, '']);
  await fs.rm(archive);
  await verifyBackup(t, directory, 13);
});

test('a file that has begun to leave cannot be read again', async (t) => {
  // within the table of 30 MB, beyond what is held back
  const proxy = await FaultyProxy.start(t, stage.serve, (index) =>
    index === 1 ? { kind: 'cut', afterBytes: 20 * MiB } : undefined,
  );
  const result = await pipeTo('cat > /dev/null', proxy, ['-j', '1']);
  assertFailed(result, {
    error: /^lost connection to server at "127\.0\.0\.1", port \d+: /,
    hint: /^what a task has begun to write here cannot be written again$/,
  });
  await untilOutOfBackupMode(stage.server);
});

test('a file that is held back still is read again', async (t) => {
  const proxy = await FaultyProxy.start(t, stage.serve, (index) =>
    index === 1 ? { kind: 'cut', afterBytes: MiB } : undefined,
  );
  const directory = await temporaryDirectory(t);
  const result = await pipeTo(`tar -x -C '${directory}'`, proxy, ['-j', '2']);
  assert.equal(result.status, 0, result.stderr);
  assert.match(result.stderr, /^pgconvoy: warning: 1 task was repeated/m);
  await verifyBackup(t, directory, 15);
});

test('a reader who leaves ends the backup with one line', async () => {
  for (const extra of [[], ['-Z', 'gzip:1'], ['-Z', 'lz4'], ['-Z', 'zstd']]) {
    const result = await pipeTo('head -c 100000 > /dev/null', stage.serve, extra);
    assertFailed(result, { error: /^could not write to "standard output": Broken pipe$/ });
    await untilOutOfBackupMode(stage.server);
  }
});

test('a reader who stops does not keep a backup from ending', async (t) => {
  const args = [PROGRAM, 'backup', ...backupArguments(stage.serve, '-', ['-Ft', '-X', 'fetch', '-j', '2'])];
  const inherited = Object.entries(process.env).filter(([name]) => !name.startsWith('PG'));
  const child = spawn(process.execPath, args, {
    env: { ...Object.fromEntries(inherited), ...BACKUP_ENVIRONMENT },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  cleanup(t, () => void child.kill('SIGKILL'));
  const ended = new Promise<number | null>((resolve) => child.once('exit', resolve));
  let stderr = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  // nobody takes a byte after the first
  await new Promise<void>((resolve) => child.stdout.once('readable', resolve));
  await until('the server has sent what anybody takes', async () => {
    const rows = await sql(
      stage.server,
      "SELECT 1 FROM pg_stat_activity WHERE application_name LIKE 'pgconvoy%' AND backend_type = 'walsender'",
    );
    return rows.length > 0 || stderr !== '';
  });
  const sent = performance.now();
  child.kill('SIGTERM');
  assert.equal(await ended, 1);
  assert.ok(performance.now() - sent < 5000);
  assert.match(stderr, /^pgconvoy: error: interrupted by SIGTERM$/m);
  await untilOutOfBackupMode(stage.server);
});

for (const [archive, compression, diskBytes, fileSystem] of [
  ['base.tar', ['-r', '8M'], 150 * MiB, 'tmpfs'],
  ['base.tar', ['-r', '8M'], 150 * MiB, 'ext4'],
  ['base.tar.gz', ['-Z', 'gzip:1'], 3 * MiB, 'tmpfs'],
  ['base.tar.lz4', ['-Z', 'lz4'], 3 * MiB, 'tmpfs'],
  ['base.tar.lz4', ['-Z', 'lz4'], 3 * MiB, 'ext4'],
  ['base.tar.zst', ['-Z', 'zstd'], 2 * MiB, 'tmpfs'],
] as const) {
  test(`a disk that fills up under archives ends a backup, and nothing is left: ${archive}, ${fileSystem}`, async (t) => {
    const disk = await (fileSystem === 'ext4' ? smallExt4(t, diskBytes) : smallDisk(t, diskBytes));
    if (disk === undefined) return;
    // the free space is looked at where it can be reckoned with: the filler comes after that
    const target = path.join(disk, 'backup');
    const running = startBackup(t, stage.serve, target, ['-Ft', '-X', 'fetch', ...compression]);
    if (archive === 'base.tar') {
      await until('the archive has grown', async () => (await sizeOf(path.join(target, archive))) > MiB);
      await fillDisk(disk);
    }
    const { stderr, ...result } = await running.ended;
    assert.ok(stderr.includes(`"${path.join(target, archive)}"`), stderr);
    assertFailed({ stderr, ...result }, { error: /^could not write file "[^"]*": No space left on device$/ });
    await assertAbsent(target);
    await untilOutOfBackupMode(stage.server);
  });
}

test('a disk that is too small for archives is named before anything is copied', async (t) => {
  const disk = await smallDisk(t, 4 * MiB);
  if (disk === undefined) return;
  const result = await takeBackup(stage.serve, path.join(disk, 'backup'), ['-Ft']);
  assertFailed(result, { error: /^not enough free space at "[^"]*": \d+ MB are needed, 4 MB are free$/ });
  await untilOutOfBackupMode(stage.server);
});

for (const [name, compression] of [
  ['base.tar', []],
  ['base.tar.gz', ['-Z', 'gzip:1']],
  ['base.tar.lz4', ['-Z', 'lz4']],
  ['base.tar.zst', ['-Z', 'zstd']],
] as const) {
  test(`Ctrl-C leaves no archive behind: ${name}`, async (t) => {
    const target = await newTarget(t);
    const running = startBackup(t, stage.serve, target, ['-Ft', '-X', 'fetch', '-r', '1M', ...compression]);
    const archive = path.join(target, name);
    await until('the archive is there', async () => (await sizeOf(archive)) > 0);
    const { afterMs, ...result } = await running.endBy('SIGINT');
    assertFailed(result, { error: /^interrupted by SIGINT$/ });
    assert.ok(afterMs < 5000, `${afterMs} ms`);
    await assertAbsent(target);
    await untilOutOfBackupMode(stage.server);
  });
}

test('a directory that is not empty is refused for archives, too', async (t) => {
  const target = await newTarget(t);
  await fs.mkdir(target);
  await fs.writeFile(path.join(target, 'precious'), 'do not touch');
  assertFailed(await takeBackup(stage.serve, target, ['-Ft']), {
    error: /^directory ".*\/backup" exists but is not empty$/,
    hint: /remove or empty it/,
  });
  assert.deepEqual(await fs.readdir(target), ['precious']);
});

// the last: the others' server has no tablespaces
test('tablespaces do not go to standard output', async (t) => {
  const place = await stage.server.makeDirectory(path.join(await temporaryDirectory(t), 'space'));
  await sql(stage.server, `CREATE TABLESPACE space LOCATION '${place}'`);
  const result = await pipeTo('cat', stage.serve);
  assertFailed(result, { error: /^can only write single tablespace to stdout, database has 2$/ });
  await untilOutOfBackupMode(stage.server);
  await sql(stage.server, 'DROP TABLESPACE space');
});

async function sizeOf(file: string): Promise<number> {
  const stats = await fs.stat(file).catch(() => undefined);
  return stats?.size ?? 0;
}

async function fillDisk(disk: string): Promise<void> {
  const filler = await fs.open(path.join(disk, 'filler'), 'w');
  try {
    for (const block = Buffer.alloc(MiB); (await filler.write(block)).bytesWritten === block.length;);
    await filler.write(Buffer.alloc(MiB));
  } catch (error) {
    assert.equal((error as NodeJS.ErrnoException).code, 'ENOSPC');
  } finally {
    await filler.close();
  }
}
