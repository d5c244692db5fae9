/*
 * Takes a tar stream apart into members, in place and as it arrives: no byte is copied but a header that is split
 * over chunks. For the COPY streams of SEND_BACKUP_FILES and STOP_BACKUP, whose chunks lie in a reused buffer.
 * Format: PostgreSQL's tarCreateHeader (src/port/tar.c): ustar, sizes past 8 GiB in base 256, no extensions.
 */
import { ConvoyError } from '../errors.js';

const BLOCK_BYTES = 512;
/** The last second of the year 9999, the last that the manifest can name. */
const MAX_MTIME = 253_402_300_799;

export interface TarHeader {
  readonly name: string;
  readonly type: 'file' | 'directory' | 'link';
  /** Bytes of content; 0 for directories and links. */
  readonly size: number;
  /** Permission bits only: no server makes us write a set-id file. */
  readonly mode: number;
  /** Seconds since the epoch. */
  readonly mtime: number;
  /** Target of a link, else empty. */
  readonly linkName: string;
}

/** Called in the order begin, data*, end, once a member; a chunk is borrowed until the call returns. */
export interface TarMemberHandler {
  begin(header: TarHeader): void;
  /** A returned promise asks the sender to wait; what is in hand already is delivered first. */
  data(chunk: Buffer): Promise<void> | undefined;
  end(): void;
}

export class TarMemberReader {
  readonly #handler: TarMemberHandler;
  readonly #header: Buffer = Buffer.alloc(BLOCK_BYTES);
  #headerFilled = 0;
  #content = 0;
  #padding = 0;
  #inMember = false;

  constructor(handler: TarMemberHandler) {
    this.#handler = handler;
  }

  /** @throws ConvoyError `untrusted_peer` for what is no tar member, and whatever the handler throws */
  push(chunk: Buffer): Promise<void> | undefined {
    let wait: Promise<void> | undefined;
    let offset = 0;
    while (offset < chunk.length) {
      if (this.#content > 0) {
        const end = Math.min(chunk.length, offset + this.#content);
        this.#content -= end - offset;
        wait = this.#handler.data(chunk.subarray(offset, end)) ?? wait;
        offset = end;
      } else if (this.#padding > 0) {
        const skipped = Math.min(chunk.length - offset, this.#padding);
        this.#padding -= skipped;
        offset += skipped;
      } else {
        offset = this.#readHeader(chunk, offset);
      }
      if (this.#inMember && this.#content === 0) {
        this.#inMember = false;
        this.#handler.end();
      }
    }
    return wait;
  }

  /** @throws ConvoyError where the stream stopped inside a member */
  finish(): void {
    if (this.#content > 0 || this.#padding > 0 || this.#headerFilled > 0) {
      throw new ConvoyError('untrusted_peer', 'the tar stream ended inside a member');
    }
  }

  #readHeader(chunk: Buffer, offset: number): number {
    let block: Buffer = this.#header;
    let next = offset + BLOCK_BYTES;
    if (this.#headerFilled === 0 && next <= chunk.length) {
      block = chunk.subarray(offset, next);
    } else {
      const copied = chunk.copy(this.#header, this.#headerFilled, offset);
      this.#headerFilled += copied;
      next = offset + copied;
      if (this.#headerFilled < BLOCK_BYTES) return next;
      this.#headerFilled = 0;
    }
    const header = decodeTarHeader(block);
    this.#content = header.size;
    this.#padding = -header.size & (BLOCK_BYTES - 1);
    this.#inMember = true;
    this.#handler.begin(header);
    return next;
  }
}

const TYPES = new Map<number, TarHeader['type']>([
  [0x00, 'file'],
  [0x30, 'file'],
  [0x32, 'link'],
  [0x35, 'directory'],
]);

/** @throws ConvoyError `untrusted_peer` for a wrong checksum, an unknown type or a number out of range */
export function decodeTarHeader(block: Buffer): TarHeader {
  let sum = 8 * 0x20;
  for (let index = 0; index < BLOCK_BYTES; index += 1) {
    if (index < 148 || index >= 156) sum += block[index] ?? 0;
  }
  const type = TYPES.get(block[156] ?? 0);
  if (tarNumber(block, 148, 8) !== sum || type === undefined) {
    throw new ConvoyError('untrusted_peer', 'invalid tar header in the copy stream');
  }
  const prefix = tarText(block, 345, 155);
  const name = tarText(block, 0, 100);
  const size = tarNumber(block, 124, 12);
  const mtime = tarNumber(block, 136, 12);
  if (mtime > MAX_MTIME) throw badNumber();
  return {
    name: prefix === '' ? name : `${prefix}/${name}`,
    type,
    size: type === 'file' ? size : 0,
    mode: tarNumber(block, 100, 8) & 0o777,
    mtime,
    linkName: tarText(block, 157, 100),
  };
}

function tarText(block: Buffer, offset: number, length: number): string {
  const field = block.subarray(offset, offset + length);
  const end = field.indexOf(0);
  return field.toString('utf8', 0, end < 0 ? length : end);
}

/** Octal digits, or base 256 where the first byte's high bit is set. */
function tarNumber(block: Buffer, offset: number, length: number): number {
  let value: number;
  if ((block[offset] ?? 0) === 0x80) {
    value = 0;
    for (const byte of block.subarray(offset + 1, offset + length)) value = value * 256 + byte;
  } else {
    const digits = tarText(block, offset, length).trim();
    value = /^[0-7]*$/.test(digits) ? Number.parseInt(digits === '' ? '0' : digits, 8) : Number.NaN;
  }
  if (!Number.isSafeInteger(value)) throw badNumber();
  return value;
}

function badNumber(): ConvoyError {
  return new ConvoyError('untrusted_peer', 'invalid number in a tar header of the copy stream');
}
