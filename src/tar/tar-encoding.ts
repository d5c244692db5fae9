/*
 * Headers of tar members, encoded as PostgreSQL's tarCreateHeader does (src/port/tar.c), for the archives that a
 * backup consists of. Twin of tar-header.ts, which decodes them.
 * A name of 100 bytes and more, which PostgreSQL refuses, gets a GNU "long name" before its header: GNU tar, bsdtar and
 * `pgconvoy restore` read it, pg_verifybackup does not.
 */
import type { FileOwner } from '../file-owner.js';
import { MAX_TAR_NAME_BYTES } from '../limits.js';
import { TAR_BLOCK_BYTES } from './tar-header.js';

export interface TarMember {
  /** Relative; without a slash at its end for a directory, too. */
  readonly name: string;
  readonly type: 'file' | 'directory';
  /** Bytes of content; 0 for a directory. */
  readonly size: number;
  /** Permission bits. */
  readonly mode: number;
  /** Seconds since the epoch. */
  readonly mtime: number;
  /** Undefined: not known, and written as 0; the name counts first where it is known. */
  readonly owner?: FileOwner | undefined;
}

/** Two empty blocks. */
export const TAR_END: Buffer = Buffer.alloc(2 * TAR_BLOCK_BYTES);

const LONG_NAME_MEMBER = '././@LongLink';
const CHECKSUM_OFFSET = 148;
const CHECKSUM_BYTES = 8;
/** Names of the owner, as tarCreateHeader writes them: who unpacks as root gives the files to this account. */
const OWNER = 'postgres';

const TYPE_FLAGS = { file: '0', directory: '5', longName: 'L' } as const;

/** All that comes before the content: one block, more for a long name. */
export function encodeTarHeader(member: TarMember): Buffer {
  const name = Buffer.from(member.type === 'directory' ? `${member.name}/` : member.name);
  const header = encodeBlock(name, TYPE_FLAGS[member.type], member);
  if (name.length <= MAX_TAR_NAME_BYTES) return header;
  const size = name.length + 1;
  const longName = Buffer.alloc(size + tarPadding(size));
  name.copy(longName);
  const announcement = encodeBlock(Buffer.from(LONG_NAME_MEMBER), TYPE_FLAGS.longName, {
    size,
    mode: 0o644,
    mtime: 0,
  });
  return Buffer.concat([announcement, longName, header]);
}

/** Zeros that follow `size` bytes of content. */
export function tarPadding(size: number): number {
  return (TAR_BLOCK_BYTES - (size % TAR_BLOCK_BYTES)) % TAR_BLOCK_BYTES;
}

function encodeBlock(
  name: Buffer,
  typeFlag: string,
  { size, mode, mtime, owner }: Pick<TarMember, 'size' | 'mode' | 'mtime' | 'owner'>,
): Buffer {
  const block = Buffer.alloc(TAR_BLOCK_BYTES);
  name.copy(block, 0, 0, MAX_TAR_NAME_BYTES);
  writeTarNumber(block, 100, 8, mode & 0o7777);
  writeTarNumber(block, 108, 8, owner?.uid ?? 0);
  writeTarNumber(block, 116, 8, owner?.gid ?? 0);
  writeTarNumber(block, 124, 12, size);
  writeTarNumber(block, 136, 12, Math.max(0, Math.floor(mtime)));
  block.write(typeFlag, 156, 'latin1');
  block.write('ustar\x0000', 257, 'latin1');
  block.write(OWNER, 265, 'latin1');
  block.write(OWNER, 297, 'latin1');
  writeTarNumber(block, 329, 8, 0);
  writeTarNumber(block, 337, 8, 0);
  block.fill(' ', CHECKSUM_OFFSET, CHECKSUM_OFFSET + CHECKSUM_BYTES);
  const sum = block.reduce((total, byte) => total + byte, 0);
  writeTarNumber(block, CHECKSUM_OFFSET, CHECKSUM_BYTES, sum);
  return block;
}

/** print_tar_number: octal digits and a blank, or base 256 where they do not suffice (8 GiB and more). */
export function writeTarNumber(block: Buffer, offset: number, length: number, value: number): void {
  const digits = value.toString(8).padStart(length - 1, '0');
  if (digits.length < length) {
    block.write(`${digits} `, offset, 'latin1');
    return;
  }
  let rest = value;
  for (let at = offset + length - 1; at > offset; at -= 1) {
    block[at] = rest % 256;
    rest = Math.floor(rest / 256);
  }
  block[offset] = 0x80;
}
