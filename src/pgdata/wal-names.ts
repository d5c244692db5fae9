/*
 * Names and numbers of WAL segments and timeline history files.
 * Rules: XLogFileName, XLByteToSeg, XLByteToPrevSeg, IsXLogFileName, IsTLHistoryFileName in PostgreSQL's
 * src/include/access/xlog_internal.h.
 */
import type { Lsn } from '../lsn.js';

const SEGMENT_NAME = /^[0-9A-F]{24}$/;
const HISTORY_NAME = /^[0-9A-F]{8}\.history$/;
const XLOG_ID_BYTES = 1n << 32n;

export interface WalSegment {
  readonly timeline: number;
  readonly segmentNumber: bigint;
}

function hex8(value: number | bigint): string {
  return value.toString(16).toUpperCase().padStart(8, '0');
}

export function walSegmentName(segment: WalSegment, segmentBytes: number): string {
  const perId = XLOG_ID_BYTES / BigInt(segmentBytes);
  return hex8(segment.timeline) + hex8(segment.segmentNumber / perId) + hex8(segment.segmentNumber % perId);
}

/** Undefined where the name is not a segment's of this size. */
export function parseWalSegmentName(name: string, segmentBytes: number): WalSegment | undefined {
  if (!SEGMENT_NAME.test(name)) return undefined;
  const perId = XLOG_ID_BYTES / BigInt(segmentBytes);
  const low = BigInt(`0x${name.slice(16)}`);
  if (low >= perId) return undefined;
  const segmentNumber = BigInt(`0x${name.slice(8, 16)}`) * perId + low;
  return { timeline: Number.parseInt(name.slice(0, 8), 16), segmentNumber };
}

export function isWalSegmentName(name: string): boolean {
  return SEGMENT_NAME.test(name);
}

export function isHistoryFileName(name: string): boolean {
  return HISTORY_NAME.test(name);
}

export function historyFileName(timeline: number): string {
  return `${hex8(timeline)}.history`;
}

/** Of a segment or a history file; undefined for any other name. */
export function timelineOfWalFile(name: string): number | undefined {
  return SEGMENT_NAME.test(name) || HISTORY_NAME.test(name)
    ? Number.parseInt(name.slice(0, 8), 16)
    : undefined;
}

/** The segment that holds the byte at `lsn` (XLByteToSeg). */
export function segmentNumberOf(lsn: Lsn, segmentBytes: number): bigint {
  return lsn / BigInt(segmentBytes);
}

/** The segment that holds the byte before `lsn` (XLByteToPrevSeg): the last one that a backup ending there needs. */
export function lastSegmentNumberBefore(lsn: Lsn, segmentBytes: number): bigint {
  return (lsn - 1n) / BigInt(segmentBytes);
}

/** The first byte of the segment that holds the byte at `lsn`. */
export function segmentStart(lsn: Lsn, segmentBytes: number): Lsn {
  return (lsn - (lsn % BigInt(segmentBytes))) as Lsn;
}

/** The end of the last segment that a backup ending at `lsn` needs. */
export function segmentEnd(lsn: Lsn, segmentBytes: number): Lsn {
  return ((lastSegmentNumberBefore(lsn, segmentBytes) + 1n) * BigInt(segmentBytes)) as Lsn;
}
