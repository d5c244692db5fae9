/*
 * Lists a data directory, or a tablespace, from the file system, as SEND_BACKUP_FILELIST sends it: a directory
 * before its content, in directory order, exclusions applied. Called by `serve`.
 * Source: sendDir and sendTablespace in PostgreSQL's src/backend/backup/basebackup.c.
 */
import { lstatSync, readdirSync, type Stats } from 'node:fs';
import path from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { ConvoyError, fileError, isSystemError } from '../errors.js';
import {
  initForkName,
  isDatabaseDirectory,
  isEmptiedDirectory,
  parseRelationFileName,
} from './exclusions.js';
import { walDirectories, whyNotListed } from './listed-path.js';

export interface WalkedFile {
  /** "./base/1/112" in the data directory, "/srv/ts1/PG_15_202209061/5/16408" in a tablespace. */
  readonly path: string;
  readonly type: 'file' | 'directory' | 'link';
  /** Bytes; -1 for a directory. */
  readonly size: number;
  /** Seconds since the epoch. */
  readonly mtime: number;
}

export interface DataDirectoryWalk {
  readonly dataDirectory: string;
  /** Of the server: releases have different directories in pg_wal. */
  readonly majorVersion: number;
  /** Absolute locations of tablespaces; those inside the data directory are listed by their own walk only. */
  readonly tablespaceLocations: readonly string[];
  /** stats_temp_directory of PostgreSQL 13 and 14, relative to the data directory; its content is left out. */
  readonly statsTempDirectory?: string | undefined;
  readonly onWarning: (message: string) => void;
}

/** Files between two turns of the event loop: a few milliseconds. */
const BATCH_FILES = 1000;

/** Batches of the data directory's files, without the tablespaces' content. */
export async function* walkDataDirectory(walk: DataDirectoryWalk): AsyncGenerator<WalkedFile[]> {
  const walker = new Walker(walk.dataDirectory, '.', walk.onWarning, (relativePath) => {
    if (relativePath === walk.statsTempDirectory) return true;
    const absolute = path.join(walk.dataDirectory, relativePath);
    return walk.tablespaceLocations.some((location) => path.resolve(location) === absolute);
  });
  walker.walDirectories = walDirectories(walk.majorVersion);
  yield* walker.walk('');
}

/** Batches of one tablespace's files, its version directory first; nothing where that is gone. */
export async function* walkTablespace(
  location: string,
  versionDirectory: string,
  onWarning: (message: string) => void,
): AsyncGenerator<WalkedFile[]> {
  const stats = lstatIfThere(path.join(location, versionDirectory));
  if (stats === undefined) return;
  yield [{ path: `${location}/${versionDirectory}`, type: 'directory', size: -1, mtime: secondsOf(stats) }];
  yield* new Walker(location, location, onWarning, () => false).walk(versionDirectory);
}

class Walker {
  /** Below pg_wal, listed without content. */
  walDirectories: readonly string[] = [];
  readonly #root: string;
  readonly #prefix: string;
  readonly #onWarning: (message: string) => void;
  /** Directories that are listed without their content, beyond those that always are. */
  readonly #isEmptied: (relativePath: string) => boolean;
  #batch: WalkedFile[] = [];

  constructor(
    root: string,
    prefix: string,
    onWarning: (message: string) => void,
    isEmptied: (relativePath: string) => boolean,
  ) {
    this.#root = root;
    this.#prefix = prefix;
    this.#onWarning = onWarning;
    this.#isEmptied = isEmptied;
  }

  async *walk(top: string): AsyncGenerator<WalkedFile[]> {
    yield* this.#walkDirectory(top);
    if (this.#batch.length > 0) yield this.#batch;
  }

  async *#walkDirectory(directory: string): AsyncGenerator<WalkedFile[]> {
    const names = this.#namesIn(directory);
    const unlogged = isDatabaseDirectory(directory)
      ? new Set(names.filter((name) => name.endsWith('_init')))
      : undefined;
    for (const name of names) {
      const relativePath = directory === '' ? name : `${directory}/${name}`;
      if (whyNotListed(relativePath) !== undefined || isUnloggedData(name, unlogged)) continue;
      const stats = lstatIfThere(path.join(this.#root, relativePath));
      if (stats === undefined) continue;
      if (this.#add(relativePath, name, stats)) yield* this.#walkDirectory(relativePath);
      if (this.#batch.length >= BATCH_FILES) {
        yield this.#batch;
        this.#batch = [];
        await nextTurn();
      }
    }
  }

  /** Lists one entry; true where it is a directory to go into. */
  #add(relativePath: string, name: string, stats: Stats): boolean {
    const mtime = secondsOf(stats);
    const push = (type: WalkedFile['type'], size: number, listed = relativePath): void => {
      this.#batch.push({ path: `${this.#prefix}/${listed}`, type, size, mtime });
    };
    if (relativePath === 'pg_wal') {
      push('directory', -1);
      for (const below of this.walDirectories) push('directory', -1, below);
      return false;
    }
    if (isEmptiedDirectory(name)) {
      push('directory', -1);
      return false;
    }
    if (stats.isSymbolicLink() && /^pg_tblspc\/\d+$/.test(relativePath)) {
      push('link', stats.size);
      return false;
    }
    if (stats.isDirectory()) {
      push('directory', -1);
      return !this.#isEmptied(relativePath);
    }
    if (stats.isFile()) push('file', stats.size);
    else this.#onWarning(`skipping special file "${this.#prefix}/${relativePath}"`);
    return false;
  }

  #namesIn(directory: string): string[] {
    const absolute = path.join(this.#root, directory);
    try {
      const names = readdirSync(absolute);
      const unreadable = names.find((name) => name.includes('\u{fffd}'));
      if (unreadable === undefined) return names;
      throw new ConvoyError(
        'file_damaged',
        `file name in directory "${absolute}" is not valid UTF-8: "${unreadable}"`,
      );
    } catch (error) {
      if (isSystemError(error, 'ENOENT')) return [];
      throw fileError('open directory', absolute, error);
    }
  }
}

function isUnloggedData(name: string, initForks: ReadonlySet<string> | undefined): boolean {
  const relation = initForks === undefined ? undefined : parseRelationFileName(name);
  return (
    relation !== undefined && relation.fork !== 'init' && initForks?.has(initForkName(relation)) === true
  );
}

function lstatIfThere(absolute: string): Stats | undefined {
  try {
    return lstatSync(absolute, { throwIfNoEntry: false });
  } catch (error) {
    if (isSystemError(error, 'ENOTDIR')) return undefined;
    throw fileError('stat file or directory', absolute, error);
  }
}

function secondsOf(stats: Stats): number {
  return Math.floor(stats.mtimeMs / 1000);
}
