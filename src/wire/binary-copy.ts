/*
 * Takes a COPY (FORMAT binary) stream of (int4, int8, bytea) rows apart, in place and as it arrives: the bytea, which is
 * the bulk, is handed on in pieces and never collected. Used by the sql source, whose rows are chunks of files.
 * Format: PostgreSQL's documentation of COPY, "Binary Format".
 */
import { ConvoyError } from '../errors.js';

const SIGNATURE = Buffer.from('PGCOPY\n\xff\r\n\0', 'latin1');
/** Signature, flags, length of the header extension. */
const HEADER_BYTES = SIGNATURE.length + 8;
/** Count of fields, then the lengths and values of the first two, then the length of the third. */
const ROW_HEAD_BYTES = 2 + (4 + 4) + (4 + 8) + 4;
const END_OF_DATA = -1;
const FIELDS = 3;

/** Calls in the order begin, data*, end, once a row; a chunk is borrowed until the call returns. */
export interface ChunkRowHandler {
  /** @param length bytes of the third field, undefined where it is NULL (no data and no end follow) */
  begin(first: number, second: number, length: number | undefined): void;
  /** A returned promise asks the sender to wait; what is in hand already is delivered first. */
  data(chunk: Buffer): Promise<void> | undefined;
  end(): void;
}

export class ChunkRowReader {
  readonly #handler: ChunkRowHandler;
  readonly #maxChunkBytes: number;
  readonly #head: Buffer = Buffer.alloc(ROW_HEAD_BYTES);
  #headFilled = 0;
  #state: 'header' | 'row' | 'data' | 'ended' = 'header';
  #remaining = 0;

  /** @param maxChunkBytes no row that was asked for has more */
  constructor(handler: ChunkRowHandler, maxChunkBytes: number) {
    this.#handler = handler;
    this.#maxChunkBytes = maxChunkBytes;
  }

  /** @throws ConvoyError `untrusted_peer` for what was not asked for, and whatever the handler throws */
  push(chunk: Buffer): Promise<void> | undefined {
    let wait: Promise<void> | undefined;
    let offset = 0;
    while (offset < chunk.length) {
      if (this.#state === 'data') {
        const end = Math.min(chunk.length, offset + this.#remaining);
        this.#remaining -= end - offset;
        wait = this.#handler.data(chunk.subarray(offset, end)) ?? wait;
        offset = end;
        if (this.#remaining === 0) this.#endRow();
      } else {
        offset = this.#collect(chunk, offset);
      }
    }
    return wait;
  }

  /** @throws ConvoyError where the stream stopped before its end */
  finish(): void {
    if (this.#state !== 'ended') throw refuse('the copy stream ended inside a row');
  }

  #collect(chunk: Buffer, offset: number): number {
    const wanted = this.#state === 'header' ? HEADER_BYTES : this.#headFilled < 2 ? 2 : ROW_HEAD_BYTES;
    const copied = chunk.copy(this.#head, this.#headFilled, offset, offset + wanted - this.#headFilled);
    this.#headFilled += copied;
    if (this.#headFilled === wanted) this.#interpret();
    return offset + copied;
  }

  #interpret(): void {
    const head = this.#head;
    switch (this.#state) {
      case 'header':
        if (
          !head.subarray(0, SIGNATURE.length).equals(SIGNATURE) ||
          head.readUInt32BE(HEADER_BYTES - 4) !== 0
        ) {
          throw refuse('the copy stream is not in binary format');
        }
        this.#headFilled = 0;
        this.#state = 'row';
        break;
      case 'row':
        this.#interpretRow(head);
        break;
      case 'data':
      case 'ended':
        throw refuse('the copy stream goes on after its end');
    }
  }

  #interpretRow(head: Buffer): void {
    const fields = head.readInt16BE(0);
    if (fields === END_OF_DATA) {
      this.#state = 'ended';
      this.#headFilled = 0;
      return;
    }
    if (fields !== FIELDS) throw refuse('unexpected row in the copy stream');
    if (this.#headFilled < ROW_HEAD_BYTES) return;
    const length = head.readInt32BE(22);
    const second = Number(head.readBigInt64BE(14));
    if (
      head.readInt32BE(2) !== 4 ||
      head.readInt32BE(10) !== 8 ||
      length < -1 ||
      length > this.#maxChunkBytes
    ) {
      throw refuse('unexpected row in the copy stream');
    }
    this.#headFilled = 0;
    this.#handler.begin(head.readInt32BE(6), second, length === -1 ? undefined : length);
    if (length === -1) return;
    this.#state = 'data';
    this.#remaining = length;
    if (length === 0) this.#endRow();
  }

  #endRow(): void {
    this.#state = 'row';
    this.#handler.end();
  }
}

function refuse(message: string): ConvoyError {
  return new ConvoyError('untrusted_peer', message);
}
