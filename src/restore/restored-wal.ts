/*
 * Checks the WAL that a backup brought along, in the threads of a restore: from the backup's start to its end, as verify does.
 * Called by restore.ts.
 */
import path from 'node:path';
import type { BackupManifest } from '../manifest/manifest.js';
import { readControlFile } from '../pgdata/control-file.js';
import { isWalSegmentName } from '../pgdata/wal-names.js';
import { WAL_PATH } from '../target/directory-writer.js';
import { checkWalRanges } from '../wal-check/check-ranges.js';
import type { WalOutcome, WalTask } from '../wal-check/check-segments.js';
import { readWalDirectory } from '../wal-check/wal-directory.js';
import type { RestoreTask } from './messages.js';
import type { RestorePool } from './restore-pool.js';

/** @param file relative to the data directory */
export function isWalSegmentPath(file: string): boolean {
  return path.dirname(file) === WAL_PATH && isWalSegmentName(path.basename(file));
}

/**
 * @param directory the restored data directory
 * @param mayLack what is missing will come from an archive, or a primary
 * @returns what is wrong, a line each. @throws ConvoyError `target_io`
 */
export async function checkRestoredWal(
  manifest: BackupManifest,
  directory: string,
  pool: RestorePool,
  mayLack: boolean,
): Promise<readonly string[]> {
  return await checkWalRanges(manifest.walRanges, {
    files: () => readWalDirectory(path.join(directory, WAL_PATH)),
    systemIdentifier: manifest.systemIdentifier ?? (await readControlFile(directory)).systemIdentifier,
    mayLack,
    check: (tasks) => checkAll(tasks, pool),
  });
}

async function checkAll(tasks: readonly WalTask[], pool: RestorePool): Promise<readonly WalOutcome[]> {
  const outcomes: WalOutcome[] = [];
  await pool.runAll(
    tasks.map((task): RestoreTask => ({ kind: 'wal', task })),
    (outcome, index) => {
      if (outcome.kind === 'wal') outcomes[index] = outcome.outcome;
    },
  );
  return outcomes;
}
