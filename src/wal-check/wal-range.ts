/*
 * Splits a range of WAL into tasks that threads check at the same time, and joins what they found. Called by check-ranges.ts.
 * A record belongs to the task in whose segments it begins; the links between the last of one and the first of the
 * next are checked when both are known.
 */
import { MAX_WAL_SEGMENT_BYTES, MIN_WAL_SEGMENT_BYTES } from '../limits.js';
import { formatLsn, type Lsn } from '../lsn.js';
import { lastSegmentNumberBefore, segmentNumberOf, walSegmentName } from '../pgdata/wal-names.js';
import type { WalFile, WalOutcome, WalTask } from './check-segments.js';
import { incorrectPrevious, type WalkSummary } from './record-walk.js';
import type { WalStream } from './wal-page.js';

const TASK_BYTES = 16 * 1024 * 1024;
/** XLogRecordMaxSize and before it MaxAllocSize: a record may go on through so much. */
const MAX_RECORD_BYTES = 1024 * 1024 * 1024;

export interface WalRangeLimits {
  readonly startLsn: Lsn;
  readonly endLsn: Lsn;
}

/** The WAL of a range as it was found. */
export interface WalRangePlan {
  /** What is missing, as messages. */
  readonly missing: readonly string[];
  readonly tasks: readonly WalTask[];
}

export function isWalSegmentSize(bytes: number): boolean {
  const isPowerOfTwo = (bytes & (bytes - 1)) === 0;
  return isPowerOfTwo && bytes >= MIN_WAL_SEGMENT_BYTES && bytes <= MAX_WAL_SEGMENT_BYTES;
}

/** Whatever a backup needs has at least the record of its checkpoint. */
export function hasRecords({ startLsn, endLsn }: WalRangeLimits): boolean {
  return startLsn < endLsn;
}

/** What pg_waldump says of a range that is empty, or ends before it starts. */
export function noRecordAfter({ startLsn }: WalRangeLimits): string {
  return `could not find a valid record after ${formatLsn(startLsn)}`;
}

/** @param files the segments that there are, of the stream's timeline, by number */
export function planWalRange(
  stream: WalStream,
  range: WalRangeLimits,
  files: ReadonlyMap<bigint, WalFile>,
): WalRangePlan {
  const { segmentBytes } = stream;
  const missing: string[] = [];
  const tasks: WalTask[] = [];
  if (!hasRecords(range)) return { missing: [noRecordAfter(range)], tasks };
  const last = lastSegmentNumberBefore(range.endLsn, segmentBytes);
  let wanted = segmentNumberOf(range.startLsn, segmentBytes);
  const present = [...files.keys()].filter((each) => each >= wanted && each <= last);
  for (const each of present.toSorted((a, b) => (a < b ? -1 : 1))) {
    if (each < wanted) continue;
    if (each > wanted) missing.push(missingSegments(stream, wanted, each - 1n));
    const task = taskAt(stream, range, each, files);
    tasks.push(task.task);
    wanted = task.nextSegment;
  }
  if (wanted <= last) missing.push(missingSegments(stream, wanted, last));
  return { missing, tasks };
}

function taskAt(
  stream: WalStream,
  range: WalRangeLimits,
  firstSegment: bigint,
  files: ReadonlyMap<bigint, WalFile>,
): { task: WalTask; nextSegment: bigint } {
  const { segmentBytes } = stream;
  const last = lastSegmentNumberBefore(range.endLsn, segmentBytes);
  const wantedSegments = Math.max(1, TASK_BYTES / segmentBytes);
  const usedSegments = wantedSegments + Math.ceil(MAX_RECORD_BYTES / segmentBytes) + 1;
  const used: WalFile[] = [];
  for (let segment = firstSegment; segment <= last && used.length < usedSegments; segment += 1n) {
    const file = files.get(segment);
    if (file === undefined) break;
    used.push(file);
  }
  const nextSegment = firstSegment + BigInt(Math.min(used.length, wantedSegments));
  const segmentStart = (firstSegment * BigInt(segmentBytes)) as Lsn;
  const limits = {
    startLsn: segmentStart > range.startLsn ? segmentStart : range.startLsn,
    stopLsn: (nextSegment * BigInt(segmentBytes)) as Lsn,
    endLsn: range.endLsn,
  };
  return { task: { stream, limits, firstSegment, files: used }, nextSegment };
}

export function missingSegments({ timeline, segmentBytes }: WalStream, first: bigint, last: bigint): string {
  const name = (segmentNumber: bigint): string => walSegmentName({ timeline, segmentNumber }, segmentBytes);
  return first === last
    ? `WAL segment ${name(first)} is missing`
    : `WAL segments ${name(first)} to ${name(last)} are missing`;
}

/**
 * What is wrong where the walks meet, and where the last one ended.
 *
 * @param outcomes one a task, in the order of the plan
 */
export function joinWalks(tasks: readonly WalTask[], outcomes: readonly WalOutcome[]): string[] {
  const problems: string[] = [];
  let before: WalkSummary | undefined;
  for (const [index, outcome] of outcomes.entries()) {
    const follows = index > 0 && tasks[index - 1]?.limits.stopLsn === tasks[index]?.limits.startLsn;
    if (!follows) before = undefined;
    if (outcome.kind !== 'walked') {
      before = undefined;
      continue;
    }
    const problem = before === undefined ? undefined : joint(before, outcome.summary);
    if (problem !== undefined) problems.push(problem);
    before = joined(before, outcome.summary);
  }
  return problems;
}

function joint(before: WalkSummary, after: WalkSummary): string | undefined {
  if (after.beginLsn === undefined) return undefined;
  const next = formatLsn(before.nextLsn);
  const begin = formatLsn(after.beginLsn);
  if (after.beginLsn !== before.nextLsn) return `first record after ${next} is at ${begin}`;
  if (before.links === undefined || after.links === undefined) return undefined;
  const { previousLsn } = after.links;
  if (previousLsn === before.links.lastLsn) return undefined;
  return incorrectPrevious(formatLsn(previousLsn), begin).message;
}

/** Seen from what follows: a stretch in which no record begins leaves everything as it was. */
function joined(before: WalkSummary | undefined, after: WalkSummary): WalkSummary | undefined {
  if (after.beginLsn === undefined) return before;
  return { ...after, links: after.links ?? before?.links };
}
