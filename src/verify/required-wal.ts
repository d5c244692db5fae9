/* Checks the WAL that a backup needs to become consistent, in the threads of verify. Called by verify.ts. */
import { checkWalRanges } from '../wal-check/check-ranges.js';
import type { WalFile, WalOutcome, WalTask } from '../wal-check/check-segments.js';
import type { Verification } from './verification.js';

/**
 * @param files the segments that there are, by name; not asked for where the backup needs none
 * @param systemIdentifier undefined where nothing trustworthy says it
 */
export async function checkRequiredWal(
  { manifest, problems, pool }: Verification,
  files: () => ReadonlyMap<string, WalFile>,
  systemIdentifier: bigint | undefined,
): Promise<void> {
  const checkOne = async (task: WalTask): Promise<WalOutcome> => {
    const answer = await pool.run<'wal'>({ kind: 'wal', task });
    return answer.kind === 'wal' ? answer.outcome : { kind: 'damaged', messages: [answer.problem] };
  };
  const found = await checkWalRanges(manifest.walRanges, {
    files,
    systemIdentifier,
    mayLack: false,
    check: (tasks) => Promise.all(tasks.map((task) => checkOne(task))),
  });
  problems.reportAll(found);
}
