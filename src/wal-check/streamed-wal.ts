/*
 * Checks a range of WAL whose segments arrive as streams, one after the other in their order: from an archive that is
 * compressed. Called by verify's threads. Where something is wrong or missing it goes on with the next segment.
 */
import { PAGE_BYTES } from '../limits.js';
import type { Lsn } from '../lsn.js';
import { lastSegmentNumberBefore, parseWalSegmentName, segmentNumberOf } from '../pgdata/wal-names.js';
import { RecordWalk } from './record-walk.js';
import { alignedBytes, type AlignedBytes } from './short-crc32c.js';
import { SEGMENT_SIZE_OFFSET, WalDamage, type WalStream } from './wal-page.js';
import {
  hasRecords,
  isWalSegmentSize,
  missingSegments,
  noRecordAfter,
  type WalRangeLimits,
} from './wal-range.js';

export interface StreamedRange extends WalRangeLimits {
  readonly timeline: number;
}

/** Call in the order (begin, data*, end)*, finish. */
export class StreamedWal {
  readonly #range: StreamedRange;
  readonly #systemIdentifier: bigint | undefined;
  readonly #page: AlignedBytes = alignedBytes(Buffer.from(new ArrayBuffer(PAGE_BYTES)));
  readonly #problems: string[] = [];
  #stream: WalStream | undefined;
  #walk: RecordWalk | undefined;
  #name = '';
  /** Where in the segment the page begins, and how much of it there is. */
  #offset = 0;
  #filled = 0;

  constructor(range: StreamedRange, systemIdentifier: bigint | undefined) {
    this.#range = range;
    this.#systemIdentifier = systemIdentifier;
  }

  /** @param name of the segment's file */
  begin(name: string): void {
    this.#name = name;
    this.#offset = 0;
    this.#filled = 0;
  }

  /** @param chunk borrowed until the call returns */
  data(chunk: Buffer): void {
    for (let at = 0; at < chunk.length;) {
      const bytes = Math.min(PAGE_BYTES - this.#filled, chunk.length - at);
      chunk.copy(this.#page.bytes, this.#filled, at, at + bytes);
      at += bytes;
      this.#filled += bytes;
      if (this.#filled < PAGE_BYTES) return;
      this.#pageArrived();
      this.#filled = 0;
      this.#offset += PAGE_BYTES;
    }
  }

  /** The segment has ended; if too early for the record at hand, that is reported. */
  end(): void {
    const start = this.#segmentStart();
    if (this.#stream === undefined || this.#walk === undefined || start === undefined) return;
    const next = this.#walk.nextPageLsn;
    const isCut = next >= start && next < start + BigInt(this.#stream.segmentBytes);
    if (!isCut || this.#walk.isDone) return;
    const offset = next - start;
    this.#problems.push(
      `could not read from file "${this.#name}", offset ${offset}: read 0 of ${PAGE_BYTES}`,
    );
    this.#restartAfter(start);
  }

  /** @returns what is wrong, in the order of the WAL; undefined where no segment has come */
  finish(): string[] | undefined {
    if (this.#stream === undefined) return undefined;
    if (!hasRecords(this.#range)) return [noRecordAfter(this.#range)];
    this.#walk ??= this.#newWalk(this.#stream, this.#range.startLsn);
    if (!this.#walk.isDone) {
      const { segmentBytes } = this.#stream;
      const first = segmentNumberOf(this.#walk.nextPageLsn, segmentBytes);
      this.#problems.push(
        missingSegments(this.#stream, first, lastSegmentNumberBefore(this.#range.endLsn, segmentBytes)),
      );
    }
    return this.#problems;
  }

  #pageArrived(): void {
    if (this.#offset === 0) this.#stream ??= this.#streamOf(this.#page.bytes);
    const start = this.#segmentStart();
    if (this.#stream === undefined || start === undefined) return;
    const pageLsn = (start + BigInt(this.#offset)) as Lsn;
    this.#walk ??= this.#newWalk(this.#stream, this.#range.startLsn);
    if (this.#walk.isDone || pageLsn < this.#walk.nextPageLsn) return;
    if (pageLsn > this.#walk.nextPageLsn) this.#skipTo(this.#stream, this.#walk, pageLsn);
    try {
      this.#walk.push(this.#page, 0);
    } catch (error) {
      if (!(error instanceof WalDamage)) throw error;
      this.#problems.push(error.message);
      this.#restartAfter(start);
    }
  }

  #skipTo(stream: WalStream, walk: RecordWalk, pageLsn: Lsn): void {
    const first = segmentNumberOf(walk.nextPageLsn, stream.segmentBytes);
    const here = segmentNumberOf(pageLsn, stream.segmentBytes);
    this.#problems.push(missingSegments(stream, first, here - 1n));
    this.#walk = this.#newWalk(stream, pageLsn);
  }

  #restartAfter(segmentStart: bigint): void {
    if (this.#stream === undefined) return;
    this.#walk = this.#newWalk(this.#stream, (segmentStart + BigInt(this.#stream.segmentBytes)) as Lsn);
  }

  #newWalk(stream: WalStream, startLsn: Lsn): RecordWalk {
    const { endLsn } = this.#range;
    return new RecordWalk(stream, { startLsn, stopLsn: endLsn, endLsn });
  }

  /** What the first page says about the size of segments. */
  #streamOf(page: Buffer): WalStream | undefined {
    const segmentBytes = page.readUInt32LE(SEGMENT_SIZE_OFFSET);
    if (!isWalSegmentSize(segmentBytes)) return undefined;
    const { timeline } = this.#range;
    return { timeline, segmentBytes, systemIdentifier: this.#systemIdentifier };
  }

  /** Undefined where the segment is of another timeline. */
  #segmentStart(): bigint | undefined {
    if (this.#stream === undefined) return undefined;
    const segment = parseWalSegmentName(this.#name, this.#stream.segmentBytes);
    if (segment?.timeline !== this.#range.timeline) return undefined;
    return segment.segmentNumber * BigInt(this.#stream.segmentBytes);
  }
}
