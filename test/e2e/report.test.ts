/* The report at the end of a backup, and its progress, as a user has them: with -v, --report, --progress=json, on a terminal. */
import assert from 'node:assert/strict';
import * as fs from 'node:fs/promises';
import path from 'node:path';
import { before, test } from 'node:test';
import { fileScope } from '../server/test-serve.js';
import { cleanup, temporaryDirectory } from '../support/cleanup.js';
import { FaultyProxy } from '../support/faulty-proxy.js';
import { PROGRAM } from '../support/pgconvoy.js';
import { sql } from '../support/postgres.js';
import { run, tool } from '../support/tools.js';
import {
  addTable,
  assertAbsent,
  assertFailed,
  BACKUP_ENVIRONMENT,
  backupArguments,
  newTarget,
  setStage,
  takeBackup,
  untilOutOfBackupMode,
  type Stage,
} from './stage.js';

const MiB = 1024 * 1024;

const scope = fileScope();
let stage: Stage;
let tablespace: string;
before(async () => {
  stage = await setStage(scope);
  tablespace = await stage.server.makeDirectory(path.join(await temporaryDirectory(scope), 'space'));
  await sql(stage.server, `CREATE TABLESPACE space LOCATION '${tablespace}'`);
  await sql(stage.server, 'CREATE TABLE far TABLESPACE space AS SELECT n FROM generate_series(1, 100000) n');
  await addTable(stage.server, 'bulk', 20);
});

interface Figures {
  readonly files: number;
  readonly bytes: number;
  readonly seconds: number;
  readonly retries: number;
}

interface Report extends Readonly<Record<string, unknown>> {
  readonly files: number;
  readonly bytes: number;
  readonly walBytes: number;
  readonly phases: readonly { readonly phase: string; readonly seconds: number; readonly bytes?: number }[];
  readonly workers: readonly Figures[];
  readonly tablespaces: readonly {
    readonly oid: number | null;
    readonly files: number;
    readonly bytes: number;
    readonly seconds: number;
    readonly bytesPerSecond: number;
  }[];
}

async function readReport(file: string): Promise<Report> {
  return JSON.parse(await fs.readFile(file, 'utf8')) as Report;
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, each) => total + each, 0);
}

test('--report and -v tell what was done, by phase, worker and tablespace', async (t) => {
  const proxy = await FaultyProxy.start(t, stage.serve, (index) =>
    index === 1 ? { kind: 'cut', afterBytes: 3 * MiB } : undefined,
  );
  const target = await newTarget(t);
  const file = path.join(path.dirname(target), 'report.json');
  const space = path.join(path.dirname(target), 'space');
  const extra = ['-j', '2', '-v', '-X', 'fetch', '-l', 'nightly', '-T', `${tablespace}=${space}`];
  const result = await takeBackup(proxy, target, [...extra, '--report', file]);
  assert.equal(result.status, 0, result.stderr);

  const report = await readReport(file);
  const { status, label, source, timeline, retries, vanishedFiles, hasBadPages, warnings } = report;
  assert.deepEqual(
    { status, label, source, timeline, retries, vanishedFiles, hasBadPages, warnings },
    {
      status: 'complete',
      label: 'nightly',
      source: 'walsender',
      timeline: 1,
      retries: 1,
      vanishedFiles: 0,
      hasBadPages: false,
      warnings: [],
    },
  );
  assert.match(String(report['serverVersion']), /^15\./);
  assert.match(String(report['startLsn']), /^[0-9A-F]+\/[0-9A-F]+$/);
  assert.match(String(report['stopLsn']), /^[0-9A-F]+\/[0-9A-F]+$/);
  const [control] = await sql(stage.server, 'SELECT system_identifier::text AS id FROM pg_control_system()');
  assert.equal(report['systemIdentifier'], control?.['id']);
  assert.equal(report['nodeVersion'], process.versions.node);
  assert.match(String(report['pgconvoyVersion']), /^\d+\.\d+\.\d+$/);

  const manifest = await fs.readFile(path.join(target, 'backup_manifest'), 'utf8');
  const { Files } = JSON.parse(manifest) as { readonly Files: readonly { Path: string; Size: number }[] };
  const far = Files.filter(({ Path }) => Path.startsWith('pg_tblspc/'));
  const near = Files.filter(({ Path }) => !Path.startsWith('pg_tblspc/'));
  const amount = (files: typeof Files) => [files.length, sum(files.map(({ Size }) => Size))];
  assert.deepEqual(
    report.tablespaces.map(({ files, bytes }) => [files, bytes]),
    // the manifest has the label, which is no copy, too
    [amount(near.filter(({ Path }) => Path !== 'backup_label')), amount(far)],
  );
  for (const { bytes, seconds, bytesPerSecond } of report.tablespaces) {
    assert.ok(seconds > 0);
    assert.ok(Math.abs(bytesPerSecond - bytes / seconds) <= 1, `${bytesPerSecond}`);
  }
  const segments = (await fs.readdir(path.join(target, 'pg_wal'))).filter((name) =>
    /^[0-9A-F]{24}$/.test(name),
  );
  assert.equal(report.walBytes, segments.length * 16 * MiB);
  assert.equal(report.bytes, sum(Files.map(({ Size }) => Size)) + report.walBytes);
  assert.equal(report.files, Files.length + segments.length);

  assert.deepEqual(
    report.phases.map(({ phase }) => phase),
    ['open', 'start', 'list', 'copy', 'stop', 'sync'],
  );
  const copy = report.phases.find(({ phase }) => phase === 'copy');
  assert.ok((copy?.seconds ?? 0) > 0);
  assert.equal(copy?.bytes, sum(report.workers.map(({ bytes }) => bytes)));
  assert.equal(report.workers.length, 2);
  assert.equal(sum(report.workers.map((worker) => worker.retries)), 1);

  for (const line of [
    /^pgconvoy: repeating a task: lost connection to server /m,
    /^pgconvoy: server 15\.\S+.* through source "walsender", write-ahead log from \S+ to \S+ on timeline 1$/m,
    /^pgconvoy: phase copy: \d+\.\d\d s, \d+\.\d MB \(\d+\.\d MB\/s\)$/m,
    /^pgconvoy: worker [12]: \d+ files, \d+\.\d MB in \d+\.\d\d s \(\d+\.\d MB\/s\), 1 repeated$/m,
    /^pgconvoy: tablespace \d+ at ".*": \d+ files, 3\.5 MB in \d+\.\d\d s \(\d+\.\d MB\/s\)$/m,
    /^pgconvoy: 0 files vanished, 1 tasks repeated$/m,
  ]) {
    assert.match(result.stderr, line);
  }
});

test('--report says so when the backup fails, and replaces the one from yesterday', async (t) => {
  const target = await newTarget(t);
  const file = path.join(path.dirname(target), 'report.json');
  await fs.writeFile(file, 'yesterday');
  const proxy = await FaultyProxy.start(t, stage.serve, (index) =>
    index >= 1 ? { kind: 'cut', afterBytes: MiB } : undefined,
  );
  const space = path.join(path.dirname(target), 'space');
  const extra = [
    '-X',
    'fetch',
    '-j',
    '1',
    '--max-retries',
    '0',
    '-T',
    `${tablespace}=${space}`,
    '--report',
    file,
  ];
  const result = await takeBackup(proxy, target, extra);
  assertFailed(result, { error: /^lost connection to server / });
  // not one connection more
  assert.equal(proxy.connections.length, 2);
  const report = await readReport(file);
  assert.equal(report['status'], 'failed');
  const error = report['error'] as { readonly code: string; readonly message: string; readonly hint: null };
  assert.equal(error.code, 'connection_lost');
  assert.ok(result.stderr.includes(error.message));
  await assertAbsent(target);
  await untilOutOfBackupMode(stage.server);
});

test('a report that cannot be written is refused before the server is asked', async (t) => {
  const target = await newTarget(t);
  const result = await takeBackup({ host: '/nonexistent', port: 1 }, target, [
    '--report',
    path.join(path.dirname(target), 'gone', 'report.json'),
  ]);
  assertFailed(result, { error: /^could not write report ".*": No such file or directory$/ });
  await assertAbsent(target);
});

test('--progress=json tells phases and amounts, one object a line', async (t) => {
  const result = await takeBackup(stage.serve, '', [
    '-D',
    await newTarget(t),
    '-T',
    `${tablespace}=${await newTarget(t)}`,
    '--progress=json',
  ]);
  assert.equal(result.status, 0, result.stderr);
  const objects = result.stderr
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line) as Readonly<Record<string, unknown>>);
  assert.deepEqual(
    objects.filter((object) => object['bytes'] === undefined),
    ['open', 'start', 'list', 'copy', 'stop', 'sync'].map((phase) => ({ phase })),
  );
  const last = objects.findLast((object) => object['bytes'] !== undefined);
  assert.equal(last?.['files'], last?.['totalFiles']);
});

test('-P on a terminal of 50 columns never writes a line that is longer', async (t) => {
  const script = tool('script');
  if (script === undefined) {
    t.skip('util-linux is not installed: script not found');
    return;
  }
  const target = await newTarget(t);
  const args = [...backupArguments(stage.serve, target, ['-P', '-T', `${tablespace}=${target}-space`])];
  const quoted = [process.execPath, PROGRAM, 'backup', ...args].map((word) => `'${word}'`).join(' ');
  const log = path.join(path.dirname(target), 'typescript');
  cleanup(t, () => fs.rm(log, { force: true }));
  const result = await run(script, ['-qefc', `stty cols 50; ${quoted}`, log], { env: BACKUP_ENVIRONMENT });
  assert.equal(result.status, 0, result.stdout + result.stderr);
  const drawn = result.stdout.split('\r').flatMap((text) => text.split('\u001B[J').at(-1)?.split('\n') ?? []);
  const bars = drawn.filter((line) => line.startsWith('['));
  assert.ok(bars.length > 0, JSON.stringify(result.stdout));
  for (const line of bars) assert.match(line, /^\[=* *\] \d+\/\d+ kB \(\d+%\)(?:, [^,]+){0,2}$/);
  for (const line of drawn) assert.ok(line.length < 50, line);
  assert.match(bars.at(-1) ?? '', /\(100%\)/);
});
