/*
 * Would a base backup's file list contain this path? Pure rules on names, asked by `serve` before it sends a file
 * and by the client before it believes a server's list.
 */
import { CONTROL_FILE_PATH } from './control-file.js';
import {
  isDatabaseDirectory,
  isEmptiedDirectory,
  isExcludedName,
  isTemporaryRelationName,
} from './exclusions.js';

/** Directories below pg_wal that are listed, empty; WAL summaries came with PostgreSQL 17. */
export function walDirectories(major: number): string[] {
  return major >= 17 ? ['pg_wal/archive_status', 'pg_wal/summaries'] : ['pg_wal/archive_status'];
}

const WAL_DIRECTORIES: ReadonlySet<string> = new Set(walDirectories(Number.POSITIVE_INFINITY));

/** A component that is empty, "." or "..". */
const ODD_COMPONENT = /(?:^|\/)\.{0,2}(?:\/|$)/;

/** True for a path of one or more plain components: no "..", no ".", no empty one, no NUL, not absolute. */
export function isPlainRelativePath(relativePath: string): boolean {
  return !ODD_COMPONENT.test(relativePath) && !relativePath.includes('\0');
}

/**
 * Why a file list never contains this path, or undefined where it may.
 *
 * @param relativePath relative to the data directory, or to a tablespace's location ("PG_15_202209061/5/1259")
 */
export function whyNotListed(relativePath: string): string | undefined {
  if (!isPlainRelativePath(relativePath)) return 'not a plain path below the data directory';
  if (relativePath === CONTROL_FILE_PATH) return 'sent when the backup stops';
  if (relativePath.startsWith('pg_wal/') && !WAL_DIRECTORIES.has(relativePath)) {
    return 'WAL is sent when the backup stops';
  }
  const directories = relativePath.split('/');
  const name = directories.pop() ?? '';
  if (isExcludedName(name) || directories.some(isExcludedName)) return 'excluded from backups';
  if (directories.some(isEmptiedDirectory)) return 'content of this directory is excluded from backups';
  const directory = relativePath.slice(0, Math.max(0, relativePath.length - name.length - 1));
  if (isDatabaseDirectory(directory) && isTemporaryRelationName(name)) return 'temporary relation';
  return undefined;
}
