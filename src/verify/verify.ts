/*
 * Verifies a finished backup against its manifest, whoever took it: names, sizes, checksums, the cluster's identity,
 * pages on request, and the WAL that it needs. Nothing is written, and no program of PostgreSQL is called.
 * Source of what is checked and of the words: PostgreSQL 18's src/bin/pg_verifybackup.
 */
import { readdirSync, statSync } from 'node:fs';
import path from 'node:path';
import { assertNever } from '../assert-never.js';
import { fileError } from '../errors.js';
import { MANIFEST_PATH, type BackupManifest } from '../manifest/manifest.js';
import { readManifest } from '../manifest/read-manifest.js';
import { ProgressCounters } from '../progress-counters.js';
import {
  findBackup,
  findTarBackup,
  type BackupArchive,
  type FinishedBackup,
} from '../target/finished-backup.js';
import { CheckPool } from './check-pool.js';
import { IgnoredPaths } from './ignored-paths.js';
import { verifyPlainBackup } from './plain-backup.js';
import { FirstProblem, Problems } from './problems.js';
import type { Verification } from './verification.js';
import type { VerifyEvents, VerifyOptions, VerifyReport } from './verify-options.js';

/** What an archive of a backup may be called; the rest is for finished-backup.ts to say. */
const ARCHIVE_NAME = /^(?:base|pg_wal|\d+)\.(?:tar|tgz)/;

/**
 * @returns once everything has been looked at, or the first problem found where no more are wanted
 * @throws ConvoyError where the manifest or the backup cannot be read at all, or the manifest is damaged
 */
export async function verify(options: VerifyOptions, events: VerifyEvents): Promise<VerifyReport> {
  await using pool = new CheckPool(options.jobs);
  const manifest = await manifestOf(options);
  const backup = locate(options);
  const problems = new Problems(events, options);
  const verification: Verification = {
    options,
    events,
    manifest,
    ignored: new IgnoredPaths(options.ignore),
    problems,
    pool,
    counters: new ProgressCounters(),
  };
  try {
    await verifyKind(verification, backup);
  } catch (error) {
    if (!(error instanceof FirstProblem)) throw error;
  }
  return { problems: problems.count };
}

async function verifyKind(verification: Verification, backup: FinishedBackup): Promise<void> {
  switch (backup.kind) {
    case 'plain':
      return await verifyPlainBackup(verification, backup.directory);
    case 'tar':
      return await verifyArchives(verification, backup.archives, backup.unexpected);
    case 'stream':
      return await verifyArchives(verification, [backup.archive], []);
    default:
      return assertNever(backup);
  }
}

/** What archives need is loaded for them only. */
async function verifyArchives(
  verification: Verification,
  archives: readonly BackupArchive[],
  unexpected: readonly string[],
): Promise<void> {
  const { verifyTarBackup } = await import('./tar-backup.js');
  await verifyTarBackup(verification, archives, unexpected);
}

async function manifestOf({ backup, manifest }: VerifyOptions): Promise<BackupManifest> {
  if (manifest !== undefined) return readManifest(manifest);
  const isFile = statSync(backup, { throwIfNoEntry: false })?.isFile() === true;
  if (!isFile) return readManifest(path.join(backup, MANIFEST_PATH));
  const found = findBackup(backup);
  if (found.kind !== 'stream') return readManifest(backup);
  const { readArchivedManifest } = await import('./archived-manifest.js');
  return await readArchivedManifest(found.archive);
}

/** A directory without PG_VERSION is a backup in tar format only if there is an archive in it. */
function locate({ backup, format }: VerifyOptions): FinishedBackup {
  const plain = { kind: 'plain', directory: backup } as const;
  if (format === 'plain') return plain;
  if (format === undefined && !hasArchives(backup)) return plain;
  return findTarBackup(backup);
}

function hasArchives(backup: string): boolean {
  try {
    if (statSync(backup).isFile()) return true;
    const names = readdirSync(backup);
    return !names.includes('PG_VERSION') && names.some((name) => ARCHIVE_NAME.test(name));
  } catch (error) {
    throw fileError('open directory', backup, error);
  }
}
