/*
 * One header block of a tar stream, decoded; called by tar-members.ts.
 * Format: PostgreSQL's tarCreateHeader (src/port/tar.c): ustar, sizes past 8 GiB in base 256; and what GNU tar and
 * POSIX archives have besides (types of tar-extensions.ts).
 */
import type { ConvoyError } from '../errors.js';
import type { FileOwner } from '../file-owner.js';

export const TAR_BLOCK_BYTES = 512;
/** The last second of the year 9999, the last that the manifest can name. */
const MAX_MTIME = 253_402_300_799;
const MAX_OWNER_NUMBER = 2 ** 32 - 1;

export interface TarHeader {
  readonly name: string;
  readonly type: 'file' | 'directory' | 'link';
  /** Bytes of content; 0 for directories and links. */
  readonly size: number;
  /** Permission bits only: no server makes us write a set-id file. */
  readonly mode: number;
  /** Undefined: the member was not read from a stream. */
  readonly owner?: FileOwner | undefined;
  /** Seconds since the epoch. */
  readonly mtime: number;
  /** Target of a link, else empty. */
  readonly linkName: string;
}

export type TarExtension = 'gnu-name' | 'gnu-link' | 'pax' | 'pax-global';

/** A block that says something about the header after it, in its content. */
export interface TarExtensionHeader {
  readonly type: 'extension';
  readonly says: TarExtension;
  readonly size: number;
}

/** Makes the error of a stream that is damaged from a reason ("invalid tar header"). */
export type TarFailure = (reason: string) => ConvoyError;

const TYPES = new Map<number, TarHeader['type']>([
  [0x00, 'file'],
  [0x30, 'file'],
  [0x32, 'link'],
  [0x35, 'directory'],
]);

/** 'L', 'K', 'x', 'g'. */
const EXTENSION_TYPES = new Map<number, TarExtension>([
  [0x4c, 'gnu-name'],
  [0x4b, 'gnu-link'],
  [0x78, 'pax'],
  [0x67, 'pax-global'],
]);

/** Nothing but zeros: the end of an archive. */
export function isEmptyBlock(block: Uint8Array): boolean {
  return block.every((byte) => byte === 0);
}

/**
 * @param extensions whether a block may be an extension
 * @throws what `fail` makes of a wrong checksum, an unknown type or a number out of range
 */
export function decodeTarHeader(
  block: Buffer,
  fail: TarFailure,
  extensions: boolean,
): TarHeader | TarExtensionHeader {
  let sum = 8 * 0x20;
  for (let index = 0; index < TAR_BLOCK_BYTES; index += 1) {
    if (index < 148 || index >= 156) sum += block[index] ?? 0;
  }
  if (tarNumber(block, 148, 8, fail) !== sum) throw fail('invalid tar header');
  const size = tarNumber(block, 124, 12, fail);
  const flag = block[156] ?? 0;
  const type = TYPES.get(flag);
  if (type !== undefined) return memberHeader(block, type, size, fail);
  const says = EXTENSION_TYPES.get(flag);
  if (says === undefined || !extensions) throw fail('invalid tar header');
  return { type: 'extension', says, size };
}

function memberHeader(block: Buffer, type: TarHeader['type'], size: number, fail: TarFailure): TarHeader {
  // in GNU tar's own format ("ustar  ") other fields lie where the prefix does
  const prefix = block[262] === 0x20 ? '' : tarText(block, 345, 155);
  const name = tarText(block, 0, 100);
  const mtime = tarNumber(block, 136, 12, fail);
  if (mtime > MAX_MTIME) throw fail('invalid number in a tar header');
  return {
    name: prefix === '' ? name : `${prefix}/${name}`,
    type,
    size: type === 'file' ? size : 0,
    mode: tarNumber(block, 100, 8, fail) & 0o777,
    owner: { uid: ownerNumber(block, 108, fail), gid: ownerNumber(block, 116, fail) },
    mtime,
    linkName: tarText(block, 157, 100),
  };
}

function tarText(block: Buffer, offset: number, length: number): string {
  const field = block.subarray(offset, offset + length);
  const end = field.indexOf(0);
  return field.toString('utf8', 0, end < 0 ? length : end);
}

function ownerNumber(block: Buffer, offset: number, fail: TarFailure): number {
  const value = tarNumber(block, offset, 8, fail);
  if (value > MAX_OWNER_NUMBER) throw fail('invalid number in a tar header');
  return value;
}

/** Octal digits, or base 256 where the first byte's high bit is set. */
function tarNumber(block: Buffer, offset: number, length: number, fail: TarFailure): number {
  let value: number;
  if ((block[offset] ?? 0) === 0x80) {
    value = 0;
    for (const byte of block.subarray(offset + 1, offset + length)) value = value * 256 + byte;
  } else {
    const digits = tarText(block, offset, length).trim();
    value = /^[0-7]*$/.test(digits) ? Number.parseInt(digits === '' ? '0' : digits, 8) : Number.NaN;
  }
  if (!Number.isSafeInteger(value)) throw fail('invalid number in a tar header');
  return value;
}
