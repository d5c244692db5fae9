/*
 * The stage of an end-to-end test: a real server, `pgconvoy serve` beside it, a role that may take backups and nothing
 * else; and what must hold after a backup that failed.
 */
import assert from 'node:assert/strict';
import * as fs from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { EmbeddedServer } from '../../src/demo/embedded-server.js';
import { temporaryDirectory, type TestScope } from '../support/cleanup.js';
import { pgconvoy, startServe, type Serve } from '../support/pgconvoy.js';
import { sql, testServer, type TestServerOptions } from '../support/postgres.js';
import { RunningBackup } from '../support/running-backup.js';
import type { RunResult } from '../support/tools.js';

export interface Stage {
  readonly server: EmbeddedServer;
  readonly serve: Serve;
}

/** Where a backup connects to. */
export interface Address {
  readonly host: string;
  readonly port: number;
}

/** The backup role's password, and no TLS: `serve` has none here, and the attempt would be one connection more. */
export const BACKUP_ENVIRONMENT = {
  PGUSER: 'backup',
  PGPASSWORD: 'copy that',
  PGSSLMODE: 'disable',
} as const;

export async function setStage(
  t: TestScope,
  options: Partial<TestServerOptions> = {},
  serveArguments: readonly string[] = [],
): Promise<Stage> {
  const server = await testServer(t, { major: 15, ...options });
  const { PGUSER, PGPASSWORD } = BACKUP_ENVIRONMENT;
  await sql(server, `CREATE ROLE ${PGUSER} LOGIN REPLICATION PASSWORD '${PGPASSWORD}'`);
  return { server, serve: await startServe(t, server, serveArguments) };
}

/** A path in a directory of the test's own where nothing is yet. */
export async function newTarget(t: TestScope): Promise<string> {
  return path.join(await temporaryDirectory(t), 'backup');
}

/** Without a sync: the machine does not crash. A later option wins over these. */
export function backupArguments({ host, port }: Address, target: string, extra: readonly string[]): string[] {
  const connection = ['--source=walsender', '-h', host, '-p', String(port), '-w'];
  return ['-D', target, ...connection, '-c', 'fast', '-N', ...extra];
}

/** A backup to its end, with a fast checkpoint. */
export function takeBackup(
  address: Address,
  target: string,
  extra: readonly string[] = [],
  env: Readonly<Record<string, string>> = {},
): Promise<RunResult> {
  const args = ['backup', ...backupArguments(address, target, extra)];
  return pgconvoy(args, { env: { ...BACKUP_ENVIRONMENT, ...env }, timeoutMs: 60_000 });
}

/** As takeBackup, while it runs. */
export function startBackup(
  t: TestScope,
  address: Address,
  target: string,
  extra: readonly string[] = [],
  env: Readonly<Record<string, string>> = {},
): RunningBackup {
  const args = backupArguments(address, target, extra);
  return RunningBackup.start(t, args, { env: { ...BACKUP_ENVIRONMENT, ...env } });
}

/** Returns once files are being copied. @throws AssertionError when the backup ends before */
export async function untilCopying(running: RunningBackup, target: string): Promise<void> {
  let isOver = false;
  const over = running.ended.finally(() => (isOver = true));
  while (!(await hasRelationFiles(target))) {
    if (isOver) assert.fail(`nothing was copied:\n${(await over).stderr}`);
    await delay(10);
  }
}

async function hasRelationFiles(target: string): Promise<boolean> {
  const namesIn = (directory: string): Promise<string[]> => fs.readdir(directory).catch(() => []);
  const base = path.join(target, 'base');
  const databases = await namesIn(base);
  const names = await Promise.all(databases.map((database) => namesIn(path.join(base, database))));
  return names.some(({ length }) => length > 0);
}

/** Enough data that a copy with `-r` lasts: a table of about this many megabytes. */
export async function addTable(server: EmbeddedServer, name: string, megabytes: number): Promise<void> {
  await sql(
    server,
    `CREATE TABLE ${name} AS SELECT n, repeat(md5(n::text), 30) AS filler FROM generate_series(1, ${megabytes * 1000}) n`,
  );
}

export interface ExpectedFailure {
  /** The whole line after `pgconvoy: error: `. */
  readonly error: RegExp;
  /** The same for the hint; absent: there is none. */
  readonly hint?: RegExp;
}

/** Exit status 1, one error line that says this, at most the one hint, and nothing that is not pgconvoy's own message. */
export function assertFailed({ status, stdout, stderr }: RunResult, { error, hint }: ExpectedFailure): void {
  assert.equal(status, 1, stderr);
  assert.equal(stdout, '');
  const lines = stderr.split('\n').slice(0, -1);
  assert.deepEqual(
    lines.filter((line) => !line.startsWith('pgconvoy: ')),
    [],
    stderr,
  );
  const after = (prefix: string): string[] =>
    lines.filter((line) => line.startsWith(prefix)).map((line) => line.slice(prefix.length));
  const errors = after('pgconvoy: error: ');
  assert.equal(errors.length, 1, stderr);
  assert.match(errors[0] ?? '', error);
  const hints = after('pgconvoy: hint: ');
  assert.equal(hints.length, hint === undefined ? 0 : 1, stderr);
  if (hint !== undefined) assert.match(hints[0] ?? '', hint);
}

/** Nothing is at this path. */
export async function assertAbsent(file: string): Promise<void> {
  await assert.rejects(fs.lstat(file), { code: 'ENOENT' }, `"${file}" is still there`);
}

/**
 * Waits until the server has no session left that belongs to a backup: that it has left backup mode. What stays are the
 * connections that serve's processes share, whose queries are others.
 */
export async function untilOutOfBackupMode(server: EmbeddedServer): Promise<void> {
  let left: readonly unknown[] = [];
  for (const limit = Date.now() + 10_000; Date.now() < limit; await delay(20)) {
    left = await sql(
      server,
      `SELECT application_name, backend_type, query FROM pg_stat_activity
       WHERE backend_type = 'walsender' OR application_name LIKE 'pgconvoy%'
         AND (application_name <> 'pgconvoy serve' OR query ~ 'backup_st|log_timezone|start_backup|stop_backup')`,
    );
    if (left.length === 0) break;
  }
  assert.deepEqual(left, []);
  assert.deepEqual(await sql(server, 'SELECT slot_name FROM pg_replication_slots'), []);
}
