/*
 * Would a base backup's file list contain this path? Rules on names alone, asked by `serve` before it sends a file
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

const EXCLUDED = 'excluded from backups';

/** What a directory says of all that lies in it. */
interface DirectoryRules {
  readonly directory: string;
  readonly isPlain: boolean;
  readonly isOfWal: boolean;
  /** Why nothing in it is listed, other than WAL. */
  readonly reason: string | undefined;
  readonly isDatabase: boolean;
}

/** Of the directory that was asked for last: lists name the files of a directory one after the other. */
let lastRules = directoryRules('');

function directoryRules(directory: string): DirectoryRules {
  const names = directory.split('/');
  const excluded = names.some(isExcludedName) ? EXCLUDED : undefined;
  const emptied = names.some(isEmptiedDirectory)
    ? 'content of this directory is excluded from backups'
    : undefined;
  return {
    directory,
    isPlain: directory === '' || isPlainRelativePath(directory),
    isOfWal: names[0] === 'pg_wal',
    reason: excluded ?? emptied,
    isDatabase: isDatabaseDirectory(directory),
  };
}

/**
 * Why a file list never contains this path, or undefined where it may.
 *
 * @param relativePath relative to the data directory, or to a tablespace's location ("PG_15_202209061/5/1259")
 */
export function whyNotListed(relativePath: string): string | undefined {
  const nameAt = relativePath.lastIndexOf('/') + 1;
  const directory = relativePath.slice(0, Math.max(0, nameAt - 1));
  const name = relativePath.slice(nameAt);
  if (lastRules.directory !== directory) lastRules = directoryRules(directory);
  const { isPlain, isOfWal, reason, isDatabase } = lastRules;
  if (!isPlain || nameAt === 1 || !isPlainRelativePath(name)) {
    return 'not a plain path below the data directory';
  }
  if (relativePath === CONTROL_FILE_PATH) return 'sent when the backup stops';
  if (isOfWal && !WAL_DIRECTORIES.has(relativePath)) return 'WAL is sent when the backup stops';
  if (isExcludedName(name)) return EXCLUDED;
  if (reason !== undefined) return reason;
  return isDatabase && isTemporaryRelationName(name) ? 'temporary relation' : undefined;
}
