/* Checks a range of WAL as verify does, on this thread: for the tests of src/wal-check. */
import { readFileSync } from 'node:fs';
import type { Lsn } from '../../src/lsn.js';
import { checkSegments } from '../../src/wal-check/check-segments.js';
import { StreamedWal } from '../../src/wal-check/streamed-wal.js';
import { readWalDirectory, segmentsOfTimeline, walSegmentBytes } from '../../src/wal-check/wal-directory.js';
import { joinWalks, planWalRange } from '../../src/wal-check/wal-range.js';

export interface CheckedRange {
  readonly directory: string;
  readonly startLsn: Lsn;
  readonly endLsn: Lsn;
  readonly timeline?: number;
  readonly systemIdentifier?: bigint;
}

/** @returns what is wrong, in the order of the WAL */
export function checkWal(range: CheckedRange): string[] {
  const { directory, startLsn, endLsn, timeline = 1, systemIdentifier } = range;
  const files = readWalDirectory(directory);
  const segmentBytes = walSegmentBytes(files.values());
  const stream = { timeline, segmentBytes, systemIdentifier };
  const segments = segmentsOfTimeline(files, timeline, segmentBytes);
  const plan = planWalRange(stream, { startLsn, endLsn }, segments);
  const memory = Buffer.from(new ArrayBuffer(65_536));
  const outcomes = plan.tasks.map((task) => checkSegments(task, memory));
  const damages = outcomes.flatMap((outcome) => (outcome.kind === 'damaged' ? outcome.messages : []));
  return [...plan.missing, ...damages, ...joinWalks(plan.tasks, outcomes)];
}

/** The same of segments that arrive one after the other, in pieces of any size. */
export function checkStreamedWal(range: CheckedRange): string[] | undefined {
  const { directory, startLsn, endLsn, timeline = 1, systemIdentifier } = range;
  const streamed = new StreamedWal({ timeline, startLsn, endLsn }, systemIdentifier);
  for (const [name, file] of readWalDirectory(directory)) {
    const content = readFileSync(file.path);
    streamed.begin(name);
    for (let at = 0; at < content.length; at += 50_001) streamed.data(content.subarray(at, at + 50_001));
    streamed.end();
  }
  return streamed.finish();
}
