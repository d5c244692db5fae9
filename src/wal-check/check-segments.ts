/*
 * Checks a stretch of WAL in its segment files: what a thread of verify or restore does with a task of wal-range.ts.
 * Reads a megabyte at a time into one buffer, whatever the size of segments and records.
 */
import { closeSync, openSync, readSync } from 'node:fs';
import { fileError } from '../errors.js';
import type { Lsn } from '../lsn.js';
import { RecordWalk, type WalkLimits, type WalkSummary } from './record-walk.js';
import { alignedBytes, type AlignedBytes } from './short-crc32c.js';
import { WAL_PAGE_BYTES, WalDamage, type WalStream } from './wal-page.js';

/** Where the bytes of a segment are: a file of its own, or part of an archive. */
export interface WalFile {
  readonly path: string;
  /** In the file, bytes. */
  readonly offset: number;
  /** Bytes that there are; a whole segment where nothing is wrong. */
  readonly bytes: number;
}

/** Plain data. */
export interface WalTask {
  readonly stream: WalStream;
  readonly limits: WalkLimits;
  /** The segment that the first file holds. */
  readonly firstSegment: bigint;
  /** One a segment, without a gap; after those of the task itself, as many as its last record may go on through. */
  readonly files: readonly WalFile[];
}

/** `cut`: the WAL ended where a segment is missing, which is reported already. */
export type WalOutcome =
  | { readonly kind: 'walked'; readonly summary: WalkSummary }
  | { readonly kind: 'cut' }
  | { readonly kind: 'damaged'; readonly messages: readonly string[] };

/** @param memory is overwritten; whole pages, at a multiple of 8 @throws ConvoyError `target_io` */
export function checkSegments(task: WalTask, memory: Buffer): WalOutcome {
  using reader = new SegmentReader(task, memory);
  const messages: string[] = [];
  let { startLsn } = task.limits;
  do {
    const walk = new RecordWalk(task.stream, { ...task.limits, startLsn });
    const end = walkOn(walk, reader);
    if (!(end instanceof WalDamage)) {
      if (messages.length > 0) break;
      return end === 'walked' ? { kind: 'walked', summary: walk.summary } : { kind: 'cut' };
    }
    messages.push(end.message);
    // there is no telling where the next record begins, but in the next segment
    const segmentBytes = BigInt(task.stream.segmentBytes);
    startLsn = ((walk.nextPageLsn / segmentBytes + 1n) * segmentBytes) as Lsn;
  } while (startLsn < task.limits.stopLsn && startLsn < task.limits.endLsn);
  return { kind: 'damaged', messages };
}

function walkOn(walk: RecordWalk, reader: SegmentReader): 'walked' | 'cut' | WalDamage {
  try {
    while (!walk.isDone) {
      const at = reader.page(walk.nextPageLsn);
      if (at === undefined) return 'cut';
      walk.push(reader.memory, at);
    }
    return 'walked';
  } catch (error) {
    if (!(error instanceof WalDamage)) throw error;
    return error;
  }
}

class SegmentReader implements Disposable {
  readonly memory: AlignedBytes;
  readonly #task: WalTask;
  #descriptor: number | undefined;
  #openIndex = -1;
  /** Where in its segment the memory's content begins, and how much there is. */
  #from = 0;
  #bytes = 0;

  constructor(task: WalTask, memory: Buffer) {
    this.#task = task;
    this.memory = alignedBytes(memory);
  }

  /** @returns where in the memory the page is, undefined where its segment is missing @throws WalDamage */
  page(lsn: Lsn): number | undefined {
    const { stream, firstSegment, files } = this.#task;
    const segmentBytes = BigInt(stream.segmentBytes);
    const index = Number(lsn / segmentBytes - firstSegment);
    const file = files[index];
    if (file === undefined) return undefined;
    const offset = Number(lsn % segmentBytes);
    if (index !== this.#openIndex) this.#open(file, index);
    if (offset < this.#from || offset + WAL_PAGE_BYTES > this.#from + this.#bytes) this.#read(file, offset);
    return offset - this.#from;
  }

  [Symbol.dispose](): void {
    if (this.#descriptor !== undefined) closeSync(this.#descriptor);
    this.#descriptor = undefined;
  }

  #open({ path }: WalFile, index: number): void {
    this[Symbol.dispose]();
    try {
      this.#descriptor = openSync(path, 'r');
    } catch (error) {
      throw fileError('open file', path, error);
    }
    this.#openIndex = index;
    this.#from = 0;
    this.#bytes = 0;
  }

  #read(file: WalFile, offset: number): void {
    const wanted = Math.min(this.memory.bytes.length, this.#task.stream.segmentBytes - offset);
    const there = Math.max(0, Math.min(wanted, file.bytes - offset));
    let bytes = 0;
    try {
      while (bytes < there) {
        const read = readSync(
          this.#descriptor ?? -1,
          this.memory.bytes,
          bytes,
          there - bytes,
          file.offset + offset + bytes,
        );
        if (read === 0) break;
        bytes += read;
      }
    } catch (error) {
      throw fileError('read file', file.path, error);
    }
    if (bytes < WAL_PAGE_BYTES) {
      throw new WalDamage(
        `could not read from file "${file.path}", offset ${offset}: read ${bytes} of ${WAL_PAGE_BYTES}`,
      );
    }
    this.#from = offset;
    this.#bytes = bytes;
  }
}
