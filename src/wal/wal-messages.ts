/*
 * What is in the CopyData messages of START_REPLICATION: WAL and keepalives from the server, status updates to it. The
 * bytes of WAL are handed on as they come and never collected. Used by wal-receiver.ts.
 * Formats: PostgreSQL's documentation, "Streaming Replication Protocol"; messages as in its receivelog.c.
 */
import { ConvoyError } from '../errors.js';
import { MAX_WAL_MESSAGE_BYTES } from '../limits.js';
import { formatLsn, type Lsn } from '../lsn.js';

const WAL_DATA = 0x77;
const KEEPALIVE = 0x6b;
const STATUS_UPDATE = 0x72;
/** Type, start of the WAL, end of the WAL on the server, time. */
const WAL_HEADER_BYTES = 1 + 8 + 8 + 8;
/** Type, end of the WAL on the server, time, whether to reply. */
const KEEPALIVE_BYTES = 1 + 8 + 8 + 1;
/** 2000-01-01 in Unix time. */
const POSTGRES_EPOCH_MS = 946_684_800_000;

export interface WalMessageHandler {
  /** Bytes of WAL from this position on; borrowed until the call returns. A returned promise asks to wait. */
  wal(position: Lsn, bytes: Buffer): Promise<void> | undefined;
  /** @param wantsReply the server waits for a status update */
  keepalive(wantsReply: boolean): void;
}

export class WalMessageReader {
  readonly #handler: WalMessageHandler;
  /** The head of the message in hand. */
  readonly #head = Buffer.alloc(WAL_HEADER_BYTES);
  #filled = 0;
  /** Where the next byte of WAL belongs; undefined until the head is there. */
  #position: Lsn | undefined;
  #messageBytes = 0;

  constructor(handler: WalMessageHandler) {
    this.#handler = handler;
  }

  /** @throws ConvoyError `untrusted_peer` for what is no message, and what the handler throws */
  push(piece: Buffer, isLast: boolean): Promise<void> | undefined {
    let wait: Promise<void> | undefined;
    this.#messageBytes += piece.length;
    if (this.#messageBytes > WAL_HEADER_BYTES + MAX_WAL_MESSAGE_BYTES)
      throw invalid('streaming message too large');
    let rest = piece;
    if (this.#position === undefined) {
      const taken = piece.copy(this.#head, this.#filled);
      this.#filled += taken;
      rest = piece.subarray(taken);
      this.#begin(isLast && rest.length === 0);
    }
    if (this.#position !== undefined && rest.length > 0) {
      wait = this.#handler.wal(this.#position, rest);
      this.#position = (this.#position + BigInt(rest.length)) as Lsn;
    }
    if (isLast) this.#end();
    return wait;
  }

  /** @param isWhole nothing of the message is still to come */
  #begin(isWhole: boolean): void {
    if (this.#filled === 0) return;
    const type = this.#head.readUInt8(0);
    if (type !== WAL_DATA && type !== KEEPALIVE) {
      const shown = JSON.stringify(String.fromCodePoint(type));
      throw invalid(`unrecognized streaming header: ${shown}`);
    }
    if (type === WAL_DATA && this.#filled === WAL_HEADER_BYTES) this.#position = this.#lsnAt(1);
    if (type === KEEPALIVE && isWhole && this.#filled >= KEEPALIVE_BYTES) {
      this.#handler.keepalive(this.#head.readUInt8(KEEPALIVE_BYTES - 1) !== 0);
    } else if (isWhole && this.#position === undefined) {
      throw invalid(`streaming header too small: ${this.#filled}`);
    } else if (type === KEEPALIVE && this.#messageBytes > WAL_HEADER_BYTES) {
      throw invalid(`streaming header too large: ${this.#messageBytes}`);
    }
  }

  #end(): void {
    if (this.#filled === 0) throw invalid('streaming header too small: 0');
    this.#filled = 0;
    this.#messageBytes = 0;
    this.#position = undefined;
  }

  #lsnAt(offset: number): Lsn {
    return this.#head.readBigUInt64BE(offset) as Lsn;
  }
}

export interface StatusUpdate {
  /** Up to where WAL has been written here. */
  readonly written: Lsn;
  /** Up to where the server need not keep it for us; INVALID_LSN says nothing. */
  readonly flushed: Lsn;
  /** Asks the server for a keepalive at once. */
  readonly wantsReply: boolean;
}

export function encodeStatusUpdate({ written, flushed, wantsReply }: StatusUpdate, nowMs: number): Buffer {
  const message = Buffer.alloc(1 + 8 + 8 + 8 + 8 + 1);
  message.writeUInt8(STATUS_UPDATE, 0);
  message.writeBigUInt64BE(written, 1);
  message.writeBigUInt64BE(flushed, 9);
  // nothing is applied here: bytes 17 to 24 stay 0
  message.writeBigInt64BE(BigInt(Math.round(nowMs - POSTGRES_EPOCH_MS)) * 1000n, 25);
  message.writeUInt8(wantsReply ? 1 : 0, 33);
  return message;
}

/** The error for WAL that does not follow what came before. */
export function unexpectedPosition(position: Lsn, expected: Lsn): ConvoyError {
  return invalid(`got WAL data at ${formatLsn(position)}, expected ${formatLsn(expected)}`);
}

function invalid(message: string): ConvoyError {
  return new ConvoyError('untrusted_peer', message);
}
