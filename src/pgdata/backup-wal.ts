/*
 * Which WAL segments a backup needs, from its start to its end, and whether they are all there: asked by whoever sends
 * them (`serve`, the sql source) and by whoever receives them.
 * Source: perform_base_backup in PostgreSQL's src/backend/backup/basebackup.c.
 */
import type { Lsn } from '../lsn.js';
import { lastSegmentNumberBefore, parseWalSegmentName, segmentNumberOf } from './wal-names.js';

/** Of a backup: where it starts, and where it ends. */
export interface BackupWal {
  readonly startLsn: Lsn;
  readonly stopLsn: Lsn;
  readonly segmentBytes: number;
}

/** Those names of pg_wal that are segments in the range, of whatever timeline, as the server does; oldest first. */
export function neededSegments(names: readonly string[], wal: BackupWal): string[] {
  const { first, last } = rangeOf(wal);
  return (
    names
      .filter((name) => {
        const number = parseWalSegmentName(name, wal.segmentBytes)?.segmentNumber;
        return number !== undefined && number >= first && number <= last;
      })
      // without the timeline, as compareWalFileNames
      .toSorted((a, b) => (a.slice(8) + a < b.slice(8) + b ? -1 : 1))
  );
}

/** The number of the first segment that is not among these; undefined where all are. */
export function firstMissingSegment(present: ReadonlySet<bigint>, wal: BackupWal): bigint | undefined {
  const { first, last } = rangeOf(wal);
  for (let segmentNumber = first; segmentNumber <= last; segmentNumber += 1n) {
    if (!present.has(segmentNumber)) return segmentNumber;
  }
  return undefined;
}

/** The numbers of these segments. */
export function segmentNumbersOf(names: readonly string[], segmentBytes: number): Set<bigint> {
  return new Set(names.map((name) => parseWalSegmentName(name, segmentBytes)?.segmentNumber ?? -1n));
}

function rangeOf({ startLsn, stopLsn, segmentBytes }: BackupWal): { first: bigint; last: bigint } {
  return {
    first: segmentNumberOf(startLsn, segmentBytes),
    last: lastSegmentNumberBefore(stopLsn, segmentBytes),
  };
}
