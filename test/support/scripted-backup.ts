/*
 * Backups of scripted servers: a place for each, whole backups into it, what is true of a complete one, and the steps at which
 * a server can be told to misbehave.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import * as fs from 'node:fs/promises';
import path from 'node:path';
import type { TestContext } from 'node:test';
import type { BackupOptions } from '../../src/coordinator/backup-options.js';
import type { BackupReport } from '../../src/coordinator/backup-report.js';
import { backup } from '../../src/coordinator/backup.js';
import { ConvoyError } from '../../src/errors.js';
import { temporaryDirectory } from './cleanup.js';
import {
  BACKUP_LABEL,
  controlFile,
  MTIME,
  ScriptedCluster,
  SEGMENT_BYTES,
  SEGMENT_NAME,
} from './scripted-cluster.js';
import type { ScriptedServer } from './scripted-server.js';

/** For each test. */
export const LIMIT = { timeout: 30_000 };

export interface Sandbox {
  readonly cluster: ScriptedCluster;
  readonly directory: string;
  /** Paths, kinds and contents of everything around the target. */
  snapshot(): Promise<string[]>;
}

export async function makeSandbox(t: TestContext): Promise<Sandbox> {
  const parent = await temporaryDirectory(t);
  await fs.mkdir(path.join(parent, 'outside'));
  await fs.writeFile(path.join(parent, 'outside', 'precious'), 'precious');
  return {
    cluster: new ScriptedCluster(path.join(parent, 'space')),
    directory: path.join(parent, 'backup'),
    snapshot: () => describeTree(parent),
  };
}

async function describeTree(parent: string): Promise<string[]> {
  const entries = await fs.readdir(parent, { recursive: true, withFileTypes: true });
  const lines = entries.map(async (entry) => {
    const at = path.join(entry.parentPath, entry.name);
    const content = entry.isFile() ? await fs.readFile(at, 'utf8') : '';
    return `${path.relative(parent, at)} ${entry.isDirectory()} ${content}`;
  });
  return (await Promise.all(lines)).toSorted();
}

export interface Run {
  readonly outcome: Promise<BackupReport>;
  readonly warnings: string[];
}

export function runBackup(
  server: ScriptedServer,
  directory: string,
  more: Partial<BackupOptions> = {},
  signal?: AbortSignal,
): Run {
  const warnings: string[] = [];
  const options: BackupOptions = {
    connection: server.settings(),
    source: 'walsender',
    askPassword: undefined,
    target: { kind: 'directory', directory, tablespaceMappings: [], walDirectory: undefined },
    jobs: 1,
    maxRetries: 3,
    label: 'scripted',
    fastCheckpoint: true,
    wal: 'fetch',
    manifestChecksums: 'SHA256',
    encodeManifestPaths: false,
    verifyPageChecksums: true,
    maxRateBytesPerSecond: undefined,
    recoveryConf: undefined,
    sync: false,
    syncMethod: 'fsync',
    keepOnFailure: false,
    ...more,
  };
  const events = {
    notice: () => {},
    detail: () => {},
    warning: (text: string) => void warnings.push(text),
    phaseStarted: () => {},
    copyStarted: () => {},
    copyEnded: () => {},
  };
  return { outcome: backup(options, events, signal ?? new AbortController().signal), warnings };
}
/** Every file is there with its bytes, mode and time, linked, labelled, and in the manifest. */
export async function assertComplete(cluster: ScriptedCluster, directory: string): Promise<void> {
  const expected = new Map<string, Buffer>([
    ['backup_label', Buffer.from(BACKUP_LABEL)],
    ['global/pg_control', controlFile()],
    [`pg_wal/archive_status/${SEGMENT_NAME}.done`, Buffer.alloc(0)],
  ]);
  for (const [name, { content, mode }] of cluster.files) {
    const target = name.startsWith('./')
      ? name.slice(2)
      : `pg_tblspc/16384/${path.relative(cluster.tablespace, name)}`;
    expected.set(target, content);
    const stats = await fs.stat(path.join(directory, target));
    assert.equal(stats.mode & 0o7777, mode, target);
    assert.equal(stats.mtimeMs, MTIME * 1000, target);
  }
  for (const [target, content] of expected) {
    assert.deepEqual(await fs.readFile(path.join(directory, target)), content, target);
  }
  assert.equal((await fs.readFile(path.join(directory, 'pg_wal', SEGMENT_NAME))).length, SEGMENT_BYTES);
  assert.equal(await fs.readlink(path.join(directory, 'pg_tblspc', '16384')), cluster.tablespace);
  const manifest = JSON.parse(await fs.readFile(path.join(directory, 'backup_manifest'), 'utf8')) as {
    readonly Files: readonly { readonly Path: string; readonly Checksum: string }[];
  };
  assert.deepEqual(
    new Map(manifest.Files.map((file) => [file.Path, file.Checksum] as const)),
    new Map([...expected].map(([target, content]) => [target, sha256(content)] as const)),
  );
}

function sha256(content: Buffer): string {
  return createHash('sha256').update(content).digest('hex');
}
export const PROBE = /^SEND_BACKUP_FILES$/;
export const IDENTIFY = /^IDENTIFY_SYSTEM/;
export const SEGMENT_SIZE = /wal_segment_size/;
export const START = /^START_BACKUP/;
export const LIST = /^SEND_BACKUP_FILELIST/;
export const DIRECTORIES = /^SEND_BACKUP_FILES \('[^']*(?:base|PG_15_\d+)'/;
export const FILES = /^SEND_BACKUP_FILES \('.*(?:PG_VERSION|112)/;
export const STOP = /^STOP_BACKUP/;
export const EVERY_STEP: readonly (readonly [name: string, on: RegExp])[] = [
  ['when probed', PROBE],
  ['to IDENTIFY_SYSTEM', IDENTIFY],
  ['to SHOW', SEGMENT_SIZE],
  ['to START_BACKUP', START],
  ['to SEND_BACKUP_FILELIST', LIST],
  ['for directories', DIRECTORIES],
  ['for files', FILES],
  ['to STOP_BACKUP', STOP],
];
export async function failureOf(promise: Promise<unknown>): Promise<ConvoyError> {
  const outcome = await promise.then(
    () => undefined,
    (error: unknown) => error,
  );
  assert.ok(outcome instanceof ConvoyError, `a ConvoyError, not ${String(outcome)}`);
  return outcome;
}
/** For a script: does it in place of an answer to such a command. */
export function spoilAt(on: RegExp, command: string, action: () => void): boolean {
  if (!on.test(command)) return false;
  action();
  return true;
}
