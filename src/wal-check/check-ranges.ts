/*
 * Checks the WAL that a backup needs to become consistent: the ranges that its manifest names, in the segments that there
 * are. Called by verify and restore, whose threads read them.
 * Twin of parse_required_wal in PostgreSQL's pg_verifybackup.c, which has pg_waldump read it.
 */
import { ConvoyError } from '../errors.js';
import type { WalFile, WalOutcome, WalTask } from './check-segments.js';
import type { StreamedRange } from './streamed-wal.js';
import { segmentsOfTimeline, walSegmentBytes } from './wal-directory.js';
import { hasRecords, joinWalks, planWalRange, type WalRangePlan } from './wal-range.js';

export interface WalSource {
  /** The segments that there are, by name; not asked for where there is no range. */
  readonly files: () => ReadonlyMap<string, WalFile>;
  /** Undefined where nothing trustworthy says it. */
  readonly systemIdentifier: bigint | undefined;
  /** Segments may come from elsewhere: only what is here is checked. */
  readonly mayLack: boolean;
  /** @returns what checkSegments() makes of each task, in their order */
  readonly check: (tasks: readonly WalTask[]) => Promise<readonly WalOutcome[]>;
}

/** @returns what is wrong, a line each. @throws whatever `check` rejects with */
export async function checkWalRanges(
  ranges: readonly StreamedRange[],
  source: WalSource,
): Promise<readonly string[]> {
  if (ranges.length === 0) return [];
  let plans: readonly WalRangePlan[];
  try {
    plans = planRanges(ranges, source);
  } catch (error) {
    if (!(error instanceof ConvoyError)) throw error;
    return ranges.flatMap((range) => walProblems(range, [error.message]));
  }
  const problems = await Promise.all(plans.map((plan) => checkPlan(plan, source)));
  return ranges.flatMap((range, index) => walProblems(range, problems[index] ?? []));
}

function planRanges(
  ranges: readonly StreamedRange[],
  { files, systemIdentifier, mayLack }: WalSource,
): WalRangePlan[] {
  const found = files();
  const segmentBytes = walSegmentBytes(found.values());
  return ranges.map((range) => {
    const { timeline } = range;
    const stream = { timeline, segmentBytes, systemIdentifier };
    const plan = planWalRange(stream, range, segmentsOfTimeline(found, timeline, segmentBytes));
    return mayLack && hasRecords(range) ? { ...plan, missing: [] } : plan;
  });
}

async function checkPlan({ missing, tasks }: WalRangePlan, { check }: WalSource): Promise<string[]> {
  const outcomes = await check(tasks);
  const damages = outcomes.flatMap((outcome) => (outcome.kind === 'damaged' ? outcome.messages : []));
  // a page that a record goes on to from the segments of another task is read for both
  return [...new Set([...missing, ...damages, ...joinWalks(tasks, outcomes)])];
}

export function walProblems(
  { timeline }: Pick<StreamedRange, 'timeline'>,
  reasons: readonly string[],
): string[] {
  return reasons.map((reason) => `WAL parsing failed for timeline ${timeline}: ${reason}`);
}
