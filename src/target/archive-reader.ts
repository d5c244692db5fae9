/*
 * Reads the tar archives of a finished backup: member by member as a stream, compressed or not; or, where it is not
 * compressed, just the headers, to know where each member's bytes lie. For `verify` and `restore`.
 */
import { closeSync, createReadStream, fstatSync, openSync, readSync } from 'node:fs';
import { ConvoyError, fileError } from '../errors.js';
import { MAX_PATH_BYTES } from '../limits.js';
import { isPlainRelativePath } from '../pgdata/listed-path.js';
import { TAR_BLOCK_BYTES, type TarHeader } from '../tar/tar-header.js';
import { TarMemberReader, type TarMemberHandler } from '../tar/tar-members.js';
import { decompress } from './decompression.js';
import type { BackupArchive } from './finished-backup.js';

const READ_BYTES = 512 * 1024;

export interface ArchiveMember {
  /** Relative to the data directory; in a tablespace below pg_tblspc/<oid>/. "" is the root of the archive itself. */
  readonly path: string;
  readonly type: TarHeader['type'];
  /** Bytes; 0 for directories and links. */
  readonly size: number;
  /** Permission bits. */
  readonly mode: number;
  /** Seconds since the epoch. */
  readonly mtime: number;
  /** Target of a link, else empty. */
  readonly linkName: string;
}

/** Called in the order begin, data*, end, once a member; a chunk is borrowed until the call returns. */
export interface ArchiveReceiver {
  begin(member: ArchiveMember): void;
  /** A returned promise is waited for; what is in hand already is delivered first. */
  data(chunk: Buffer): Promise<void> | undefined;
  end(): void;
}

export interface IndexedMember extends ArchiveMember {
  /** Where its content begins in the archive, in bytes. */
  readonly offset: number;
}

/**
 * Reads an archive from start to end.
 *
 * @param source the archive's bytes, where they do not come from the file
 * @throws ConvoyError `file_damaged` or `target_io`, naming the archive; whatever the receiver throws
 */
export async function readArchive(
  archive: BackupArchive,
  receiver: ArchiveReceiver,
  source: AsyncIterable<Buffer> = fileBytes(archive),
): Promise<void> {
  const reader = new TarMemberReader(named(archive, receiver), dialectOf(archive));
  for await (const chunk of decompress(source, archive.compression, archive.name)) {
    const wait = reader.push(chunk);
    if (wait !== undefined) await wait;
  }
  reader.finish();
}

/**
 * Finds the members of an archive that is not compressed, by reading nothing but headers.
 *
 * @throws ConvoyError `file_damaged` or `target_io`, naming the archive
 */
export function indexArchive(archive: BackupArchive): IndexedMember[] {
  const members: IndexedMember[] = [];
  let position = 0;
  const reader = new TarMemberReader(
    named(archive, {
      begin: (member) => members.push({ ...member, offset: position }),
      data: () => undefined,
      end: () => {},
    }),
    dialectOf(archive),
  );
  try {
    const descriptor = openSync(archive.path, 'r');
    try {
      const { size } = fstatSync(descriptor);
      const block = Buffer.alloc(TAR_BLOCK_BYTES);
      while (position < size) {
        const count = readSync(descriptor, block, 0, TAR_BLOCK_BYTES, position);
        if (count === 0) break;
        position += count;
        void reader.push(block.subarray(0, count));
        // a member that is cut short is told by its end, which lies past that of the file
        if (position + reader.skippable > size) break;
        position += reader.skippable;
        reader.skip();
      }
    } finally {
      closeSync(descriptor);
    }
  } catch (error) {
    throw fileError('read file', archive.path, error);
  }
  reader.finish();
  return members;
}

async function* fileBytes({ path }: BackupArchive): AsyncGenerator<Buffer> {
  try {
    for await (const chunk of createReadStream(path, { highWaterMark: READ_BYTES })) yield chunk as Buffer;
  } catch (error) {
    throw fileError('read file', path, error);
  }
}

function dialectOf({ name }: BackupArchive): {
  kind: 'archive';
  fail: (reason: string) => ConvoyError;
} {
  return {
    kind: 'archive',
    fail: (reason) => new ConvoyError('file_damaged', `archive "${name}" is damaged: ${reason}`),
  };
}

/** Gives members the names that they have in a data directory. */
function named(archive: BackupArchive, receiver: ArchiveReceiver): TarMemberHandler {
  return {
    begin: (header) => receiver.begin({ ...header, path: memberPath(archive, header.name) }),
    data: (chunk) => receiver.data(chunk),
    end: () => receiver.end(),
  };
}

/** @throws ConvoyError `file_damaged` for a name that would lead out of the data directory */
function memberPath({ name: archive, prefix }: BackupArchive, name: string): string {
  // GNU tar writes "./base/"
  const plain = name.replace(/^(?:\.\/+)+/, '').replace(/\/+$/, '');
  if (plain === '' || plain === '.') return prefix.replace(/\/$/, '');
  const path = prefix + plain;
  if (!isPlainRelativePath(plain)) {
    throw new ConvoyError('file_damaged', `archive "${archive}" has a member outside of it: "${name}"`);
  }
  if (path.includes('\uFFFD') || Buffer.byteLength(path) > MAX_PATH_BYTES) {
    throw new ConvoyError(
      'file_damaged',
      `archive "${archive}" has a member whose name is too long or not UTF-8: "${name}"`,
    );
  }
  return path;
}
