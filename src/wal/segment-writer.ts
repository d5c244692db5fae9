/*
 * Cuts a stream of WAL into segments of the server's size. Used by wal-receiver.ts; where the segments go is the
 * sink's affair (pg_wal of a directory, pg_wal.tar).
 * Rules: ProcessXLogDataMsg, open_walfile and close_walfile in PostgreSQL's src/bin/pg_basebackup/receivelog.c.
 */
import { INVALID_LSN, type Lsn } from '../lsn.js';
import { segmentNumberOf, segmentStart, walSegmentName } from '../pgdata/wal-names.js';
import { unexpectedPosition } from './wal-messages.js';

/** Takes segments in the order beginSegment, write*, endSegment, one at a time, and history files between two of them. */
export interface WalSink {
  /** @param name as in pg_wal; @throws ConvoyError `target_io` */
  beginSegment(name: string): void;
  /**
   * The chunk is only read before it returns.
   *
   * @returns a promise where the stream is to wait; it never rejects
   * @throws ConvoyError `target_io`
   */
  write(chunk: Uint8Array): Promise<void> | undefined;
  /**
   * All bytes of the segment have been written.
   *
   * @param isWhole they are all WAL, none is padding: the segment is marked as archived
   * @throws ConvoyError `target_io`
   */
  endSegment(isWhole: boolean): void;
  /** A whole file, marked as archived. @throws ConvoyError `target_io` */
  writeHistory(name: string, content: Buffer): void;
  /** Gives up the segment in hand, if any; never throws. */
  abandon(): void;
}

const PADDING = new Uint8Array(256 * 1024);

export class SegmentWriter {
  readonly #sink: WalSink;
  readonly #segmentBytes: number;
  #timeline = 0;
  #position: Lsn = INVALID_LSN;
  #ended: Lsn = INVALID_LSN;
  #isOpen = false;

  constructor(sink: WalSink, segmentBytes: number) {
    this.#sink = sink;
    this.#segmentBytes = segmentBytes;
  }

  /** Up to where WAL has been written. */
  get position(): Lsn {
    return this.#position;
  }

  /** The end of the last whole segment; INVALID_LSN before there is one. */
  get endOfSegments(): Lsn {
    return this.#ended;
  }

  /** From now on WAL of this timeline comes, from the start of the segment that holds `lsn`. @returns that start */
  beginTimeline(timeline: number, lsn: Lsn): Lsn {
    this.#timeline = timeline;
    this.#position = segmentStart(lsn, this.#segmentBytes);
    return this.#position;
  }

  /**
   * @returns a promise where the stream is to wait
   * @throws ConvoyError `untrusted_peer` unless it follows what came before; `target_io`
   */
  write(position: Lsn, bytes: Uint8Array): Promise<void> | undefined {
    let wait: Promise<void> | undefined;
    if (position !== this.#position) throw unexpectedPosition(position, this.#position);
    for (let taken = 0; taken < bytes.length;) {
      if (!this.#isOpen) this.#open();
      const part = bytes.subarray(taken, taken + this.#room());
      // whoever waits for the last one has waited for those before
      wait = this.#sink.write(part) ?? wait;
      taken += part.length;
      this.#position = (this.#position + BigInt(part.length)) as Lsn;
      if (this.#offset() === 0) this.#close(true);
    }
    return wait;
  }

  /** Nothing more comes on this timeline: fills the segment in hand with zeros, as it is on a server. */
  async endTimeline(): Promise<void> {
    if (!this.#isOpen) return;
    for (let room = this.#room(); room > 0; room -= PADDING.length) {
      // oxlint-disable-next-line eslint/no-await-in-loop
      await this.#sink.write(room < PADDING.length ? PADDING.subarray(0, room) : PADDING);
    }
    this.#close(false);
  }

  /** Bytes of the segment in hand that are written. */
  #offset(): number {
    return Number(this.#position % BigInt(this.#segmentBytes));
  }

  #room(): number {
    return this.#segmentBytes - this.#offset();
  }

  #open(): void {
    const segmentNumber = segmentNumberOf(this.#position, this.#segmentBytes);
    this.#sink.beginSegment(walSegmentName({ timeline: this.#timeline, segmentNumber }, this.#segmentBytes));
    this.#isOpen = true;
  }

  #close(isWhole: boolean): void {
    this.#isOpen = false;
    this.#sink.endSegment(isWhole);
    if (isWhole) this.#ended = this.#position;
  }
}
