/*
 * What lies in the directory of a backup in tar format: what does not belong there, and which archives can be read at
 * all. Called by tar-backup.ts.
 * Source: precheck_tar_backup_file and verify_tar_file in PostgreSQL 18's src/bin/pg_verifybackup/pg_verifybackup.c.
 */
import { closeSync, openSync, statSync } from 'node:fs';
import path from 'node:path';
import { fileError } from '../errors.js';
import type { BackupArchive } from '../target/finished-backup.js';
import type { Verification } from './verification.js';

/** @param names of what lies beside the archives, in the backup's directory */
export function reportUnexpected(
  { options, ignored, problems }: Verification,
  names: readonly string[],
): void {
  for (const name of names) {
    if (ignored.has(name)) continue;
    const problem = fileProblem(name, path.join(options.backup, name));
    problems.report(problem ?? `file "${name}" is not expected in a tar format backup`);
  }
}

/** Those that can be opened; of the others it is reported why not, and their files are as good as missing. */
export function usableArchives(
  { problems }: Verification,
  archives: readonly BackupArchive[],
): BackupArchive[] {
  return archives.filter((archive) => {
    const problem = fileProblem(archive.name, archive.path) ?? openProblem(archive);
    if (problem !== undefined) problems.report(problem);
    return problem === undefined;
  });
}

function fileProblem(name: string, absolute: string): string | undefined {
  try {
    return statSync(absolute).isFile() ? undefined : `file "${name}" is not a regular file`;
  } catch (error) {
    return fileError('stat file or directory', name, error).message;
  }
}

function openProblem({ name, path: absolute }: BackupArchive): string | undefined {
  try {
    closeSync(openSync(absolute, 'r'));
    return undefined;
  } catch (error) {
    return fileError('open file', name, error).message;
  }
}
