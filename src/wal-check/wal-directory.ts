/*
 * The WAL segments that a directory holds, and how large segments are in this cluster. Called by check-ranges.ts,
 * verify and restore.
 * Rules: pg_waldump's search_directory, and IsValidWalSegSize in PostgreSQL's src/include/access/xlog_internal.h.
 */
import { closeSync, openSync, readdirSync, readSync, statSync } from 'node:fs';
import path from 'node:path';
import { ConvoyError, fileError } from '../errors.js';
import { isWalSegmentName, parseWalSegmentName } from '../pgdata/wal-names.js';
import type { WalFile } from './check-segments.js';
import { LONG_HEADER_BYTES, SEGMENT_SIZE_OFFSET } from './wal-page.js';
import { isWalSegmentSize } from './wal-range.js';

/** @returns the segments by name @throws ConvoyError `target_io` */
export function readWalDirectory(directory: string): Map<string, WalFile> {
  try {
    const names = readdirSync(directory).filter(isWalSegmentName).toSorted();
    return new Map(
      names.map((name) => {
        const file = path.join(directory, name);
        return [name, { path: file, offset: 0, bytes: statSync(file).size }];
      }),
    );
  } catch (error) {
    throw fileError('read directory', directory, error);
  }
}

/**
 * The size that the segments themselves name; that of the first one which names a possible size.
 *
 * @throws ConvoyError `target_io`, `file_damaged` where none does
 */
export function walSegmentBytes(files: Iterable<WalFile>): number {
  let lastPath: string | undefined;
  for (const file of files) {
    const bytes = segmentBytesIn(file);
    if (isWalSegmentSize(bytes)) return bytes;
    lastPath = file.path;
  }
  if (lastPath === undefined) throw new ConvoyError('wal_missing', 'could not find any WAL file');
  throw new ConvoyError('file_damaged', `invalid WAL segment size in WAL file "${lastPath}"`);
}

function segmentBytesIn(file: WalFile): number {
  const header = Buffer.alloc(LONG_HEADER_BYTES);
  try {
    const descriptor = openSync(file.path, 'r');
    try {
      readSync(descriptor, header, 0, Math.min(header.length, file.bytes), file.offset);
    } finally {
      closeSync(descriptor);
    }
  } catch (error) {
    throw fileError('read file', file.path, error);
  }
  return header.readUInt32LE(SEGMENT_SIZE_OFFSET);
}

/** Those of one timeline, by number. */
export function segmentsOfTimeline(
  files: ReadonlyMap<string, WalFile>,
  timeline: number,
  segmentBytes: number,
): Map<bigint, WalFile> {
  const segments = new Map<bigint, WalFile>();
  for (const [name, file] of files) {
    const segment = parseWalSegmentName(name, segmentBytes);
    if (segment?.timeline === timeline) segments.set(segment.segmentNumber, file);
  }
  return segments;
}
