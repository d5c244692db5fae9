/*
 * Checks the WAL that a backup needs to become consistent, in threads. Called by verify.ts.
 * Twin of parse_required_wal in PostgreSQL's pg_verifybackup.c, which has pg_waldump read it.
 */
import { ConvoyError } from '../errors.js';
import type { WalRange } from '../manifest/manifest.js';
import type { WalFile } from '../wal-check/check-segments.js';
import { segmentsOfTimeline, walSegmentBytes } from '../wal-check/wal-directory.js';
import { joinWalks, planWalRange, type WalRangePlan } from '../wal-check/wal-range.js';
import type { Verification } from './verification.js';

/**
 * @param files the segments that there are, by name; not asked for where the backup needs none
 * @param systemIdentifier undefined where nothing trustworthy says it
 */
export async function checkRequiredWal(
  verification: Verification,
  files: () => ReadonlyMap<string, WalFile>,
  systemIdentifier: bigint | undefined,
): Promise<void> {
  const { manifest, problems } = verification;
  if (manifest.walRanges.length === 0) return;
  try {
    const found = files();
    const segmentBytes = walSegmentBytes(found.values());
    await Promise.all(
      manifest.walRanges.map(async (range) => {
        const { timeline } = range;
        const stream = { timeline, segmentBytes, systemIdentifier };
        const plan = planWalRange(stream, range, segmentsOfTimeline(found, timeline, segmentBytes));
        problems.reportAll(walProblems(range, await checkPlan(verification, plan)));
      }),
    );
  } catch (error) {
    if (!(error instanceof ConvoyError) || error.code === 'worker_failed') throw error;
    for (const range of manifest.walRanges) problems.reportAll(walProblems(range, [error.message]));
  }
}

async function checkPlan({ pool }: Verification, { missing, tasks }: WalRangePlan): Promise<string[]> {
  const answers = await Promise.all(tasks.map((task) => pool.run<'wal'>({ kind: 'wal', task })));
  const outcomes = answers.map((answer) =>
    answer.kind === 'wal' ? answer.outcome : ({ kind: 'damaged', messages: [answer.problem] } as const),
  );
  const damages = outcomes.flatMap((outcome) => (outcome.kind === 'damaged' ? outcome.messages : []));
  // a page that a record goes on to from the segments of another task is read for both
  return [...new Set([...missing, ...damages, ...joinWalks(tasks, outcomes)])];
}

export function walProblems({ timeline }: Pick<WalRange, 'timeline'>, reasons: readonly string[]): string[] {
  return reasons.map((reason) => `WAL parsing failed for timeline ${timeline}: ${reason}`);
}
