/*
 * Which archive a file of the backup belongs to, and by what name: base.tar holds the data directory, <oid>.tar what is
 * below pg_tblspc/<oid>/ (names and split: pg_basebackup -Ft, bbsink's archives in PostgreSQL's basebackup.c).
 */
import { tarPadding } from '../tar/tar-encoding.js';
import { TAR_BLOCK_BYTES } from '../tar/tar-header.js';
import type { Compression } from './compression/compression.js';
import type { ArchiveTargetSpec } from './target.js';

/** Of the data directory; those of the tablespaces follow. */
export const BASE_ARCHIVE = 0;

export interface MemberPlace {
  /** 0, or 1 and up for the tablespaces. */
  readonly archive: number;
  /** Name inside the archive. */
  readonly name: string;
}

type Layout = Pick<ArchiveTargetSpec, 'tablespaces'>;

/** @param path relative to the data directory; tablespace files below pg_tblspc/<oid>/ */
export function memberPlace({ tablespaces }: Layout, path: string): MemberPlace {
  const match = /^pg_tblspc\/(\d+)\/(.+)$/s.exec(path);
  const archive = match === null ? 0 : tablespaces.indexOf(Number(match[1])) + 1;
  return { archive, name: archive === BASE_ARCHIVE ? path : (match?.[2] ?? path) };
}

/** What a file of `size` bytes takes in an archive. */
export function memberBytes(size: number): number {
  return TAR_BLOCK_BYTES + size + tarPadding(size);
}

export function archiveCount({ tablespaces }: Layout): number {
  return tablespaces.length + 1;
}

/** "base.tar", "16384.tar.gz"; absolute. */
export function archivePath(
  { directory, tablespaces, compression }: ArchiveTargetSpec,
  archive: number,
): string {
  const stem = archive === BASE_ARCHIVE ? 'base' : String(tablespaces[archive - 1]);
  return `${directory}/${stem}.tar${archiveSuffix(compression)}`;
}

/** What follows ".tar". */
export function archiveSuffix({ method }: Compression): string {
  return { none: '', gzip: '.gz', lz4: '.lz4', zstd: '.zst' }[method];
}
