/*
 * What lies in the directory of a finished backup: a data directory, or one tar archive a tablespace. For `verify` and
 * `restore`. Names: precheck_tar_backup_file in PostgreSQL 18's pg_verifybackup.c; its parse_tar_compress_algorithm.
 */
import { readdirSync, statSync } from 'node:fs';
import path from 'node:path';
import { ConvoyError, fileError, isSystemError } from '../errors.js';
import type { ArchiveCompression } from './decompression.js';

/** One tar archive of a backup. */
export interface BackupArchive {
  /** As it is called in messages: its file name. */
  readonly name: string;
  /** Absolute path of the file. */
  readonly path: string;
  readonly compression: ArchiveCompression;
  /** Where its members belong, relative to the data directory: "" or a path ending with "/". */
  readonly prefix: string;
}

export type FinishedBackup =
  | {
      readonly kind: 'plain';
      /** Absolute path of the data directory. */
      readonly directory: string;
    }
  | {
      readonly kind: 'tar';
      /** Absolute path of the directory that holds the archives, and backup_manifest. */
      readonly directory: string;
      /** base.tar first, then the tablespaces by oid, then pg_wal.tar. */
      readonly archives: readonly BackupArchive[];
      /** Names of other files in the directory. */
      readonly unexpected: readonly string[];
    }
  | {
      readonly kind: 'stream';
      /** The one archive that holds everything, the manifest as well: written with `-D -`. */
      readonly archive: BackupArchive;
    };

const COMPRESSIONS = new Map<string, ArchiveCompression>([
  ['.tar', 'none'],
  ['.tar.gz', 'gzip'],
  ['.tgz', 'gzip'],
  ['.tar.lz4', 'lz4'],
  ['.tar.zst', 'zstd'],
]);
const ARCHIVE_NAME = /^(base|pg_wal|[1-9]\d{0,9})(\.tar|\.tgz|\.tar\.gz|\.tar\.lz4|\.tar\.zst)$/;
const MAX_OID = 2 ** 32 - 1;
/** Beside the archives. */
const MANIFEST_NAME = 'backup_manifest';

/**
 * @param location absolute path of a directory, or of a single tar file
 * @throws ConvoyError `target_io` where it cannot be read, `file_damaged` where it is no backup
 */
export function findBackup(location: string): FinishedBackup {
  const names = directoryNames(location);
  if (names?.includes('PG_VERSION') === true) return { kind: 'plain', directory: location };
  const backup = findTarBackup(location);
  if (backup.kind === 'tar' && backup.archives[0]?.prefix !== '') {
    throw new ConvoyError('file_damaged', `"${location}" is not a backup`, {
      hint: 'a backup is a directory with the file "PG_VERSION", or with "base.tar", compressed or not',
    });
  }
  return backup;
}

/** What there is of one in tar format, base.tar perhaps not. @throws as findBackup() */
export function findTarBackup(location: string): Exclude<FinishedBackup, { kind: 'plain' }> {
  const names = directoryNames(location);
  if (names === undefined) return singleArchive(location);
  const archives: BackupArchive[] = [];
  const unexpected: string[] = [];
  for (const name of names.toSorted(byArchiveOrder)) {
    const archive = archiveOf(location, name);
    if (archive !== undefined) archives.push(archive);
    else if (name !== MANIFEST_NAME) unexpected.push(name);
  }
  refuseTwins(archives);
  return { kind: 'tar', directory: location, archives, unexpected };
}

function directoryNames(location: string): string[] | undefined {
  try {
    return readdirSync(location);
  } catch (error) {
    if (isSystemError(error, 'ENOTDIR')) return undefined;
    throw fileError('open directory', location, error);
  }
}

function singleArchive(location: string): Extract<FinishedBackup, { kind: 'stream' }> {
  const name = path.basename(location);
  const suffix = /(?:\.tar)?\.[^.]*$/.exec(name)?.[0] ?? '';
  const compression = COMPRESSIONS.get(suffix);
  if (compression === undefined || !statSync(location).isFile()) {
    throw new ConvoyError('file_damaged', `"${location}" is neither a directory nor a tar file`, {
      hint: `names of tar files end with ${[...COMPRESSIONS.keys()].join(', ')}`,
    });
  }
  return { kind: 'stream', archive: { name, path: location, compression, prefix: '' } };
}

function archiveOf(directory: string, name: string): BackupArchive | undefined {
  const [, stem = '', suffix = ''] = ARCHIVE_NAME.exec(name) ?? [];
  const compression = COMPRESSIONS.get(suffix);
  if (compression === undefined || Number(stem) > MAX_OID) return undefined;
  return { name, path: path.join(directory, name), compression, prefix: prefixOf(stem) };
}

function prefixOf(stem: string): string {
  if (stem === 'base') return '';
  return stem === 'pg_wal' ? 'pg_wal/' : `pg_tblspc/${stem}/`;
}

function byArchiveOrder(a: string, b: string): number {
  return rank(a) - rank(b) || (a < b ? -1 : 1);
}

function rank(name: string): number {
  if (name.startsWith('base.')) return -1;
  const oid = Number.parseInt(name, 10);
  return Number.isNaN(oid) ? Number.POSITIVE_INFINITY : oid;
}

function refuseTwins(archives: readonly BackupArchive[]): void {
  for (const [index, { name, prefix }] of archives.entries()) {
    const twin = archives.slice(0, index).find((other) => other.prefix === prefix);
    if (twin === undefined) continue;
    throw new ConvoyError('file_damaged', `archives "${twin.name}" and "${name}" are of the same tablespace`);
  }
}
