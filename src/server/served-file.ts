/*
 * What lies at a served path, opened without ever following a symbolic link and without opening anything but regular
 * files (a FIFO would block, a device could do anything). Called by send-backup-files.ts for each path.
 * Rules: SendBackupFiles of the patch, sendDir of PostgreSQL's src/backend/backup/basebackup.c.
 */
import {
  closeSync,
  constants,
  fstatSync,
  lstatSync,
  openSync,
  readlinkSync,
  realpathSync,
  type Stats,
} from 'node:fs';
import path from 'node:path';
import { fileError, isSystemError } from '../errors.js';
import {
  initForkName,
  isDatabaseDirectory,
  isEmptiedDirectory,
  parseRelationFileName,
} from '../pgdata/exclusions.js';
import { refused, type ServedPath } from './served-path.js';

export type ServedFile =
  | { readonly kind: 'file'; readonly descriptor: number; readonly stats: Stats }
  | { readonly kind: 'directory'; readonly stats: Stats; readonly mode: number }
  | { readonly kind: 'link'; readonly stats: Stats; readonly target: string };

const OPEN_FLAGS = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;

/** WAL may lie elsewhere, behind a link; these directories are sent as empty ones, nothing in them is. */
const WAL_DIRECTORY = /^pg_wal(?:\/|$)/;
const TABLESPACE_LINK = /^pg_tblspc\/[1-9]\d*$/;

export class ServedFiles {
  readonly #dataDirectory: string;
  /** Directories that have been found to lie where they seem to; kept for one command. */
  readonly #checkedParents = new Set<string>();

  constructor(dataDirectory: string) {
    this.#dataDirectory = dataDirectory;
  }

  /**
   * The file, its descriptor open; undefined where it has vanished.
   *
   * @throws ConvoyError 42501 for what no file list contains, or with the system's error
   */
  open(served: ServedPath): ServedFile | undefined {
    const absolute = `${served.root}/${served.relative}`;
    try {
      if (!WAL_DIRECTORY.test(served.relative) || served.isInTablespace) this.#assertParentInside(served);
      return this.#openAt(served, absolute);
    } catch (error) {
      if (isSystemError(error, 'ENOENT') || isSystemError(error, 'ENOTDIR')) return undefined;
      throw fileError('open file', served.asked, error);
    }
  }

  #openAt(served: ServedPath, absolute: string): ServedFile | undefined {
    const { asked, relative, isInTablespace } = served;
    const stats = lstatSync(absolute);
    if (stats.isSymbolicLink()) {
      if (TABLESPACE_LINK.test(relative) && !isInTablespace) {
        return { kind: 'link', stats, target: readlinkSync(absolute) };
      }
      // as _tarWriteDir: such a directory may be a link, and is sent as a directory
      const isDirectory = WAL_DIRECTORY.test(relative) || isEmptiedDirectory(path.basename(relative));
      if (isDirectory) return { kind: 'directory', stats, mode: lstatSync(this.#dataDirectory).mode };
      throw refused(asked, 'it is a symbolic link');
    }
    if (stats.isDirectory()) return { kind: 'directory', stats, mode: stats.mode };
    // of pg_wal nothing but its directories is sent, whatever lies in their place
    if (!stats.isFile() || (WAL_DIRECTORY.test(relative) && !isInTablespace)) {
      throw refused(asked, 'it is not a regular file');
    }
    assertLogged(served, absolute);
    const descriptor = openSync(absolute, OPEN_FLAGS);
    const opened = fstatSync(descriptor);
    if (opened.isFile()) return { kind: 'file', descriptor, stats: opened };
    closeSync(descriptor);
    throw refused(asked, 'it is not a regular file');
  }

  #assertParentInside({ asked, root, realRoot, relative }: ServedPath): void {
    const parent = path.dirname(relative);
    const directory = path.join(root, parent);
    if (this.#checkedParents.has(directory)) return;
    if (realpathSync.native(directory) !== path.join(realRoot, parent)) {
      throw refused(asked, 'a symbolic link leads out of its directory');
    }
    this.#checkedParents.add(directory);
  }
}

/** Of an unlogged relation only the init fork is in a backup. */
function assertLogged({ asked, relative }: ServedPath, absolute: string): void {
  const directory = path.dirname(relative);
  const relation = parseRelationFileName(path.basename(relative));
  if (relation === undefined || relation.fork === 'init' || !isDatabaseDirectory(directory)) return;
  const initFork = path.join(path.dirname(absolute), initForkName(relation));
  if (lstatSync(initFork, { throwIfNoEntry: false }) !== undefined) throw refused(asked, 'unlogged relation');
}
