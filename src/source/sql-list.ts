/*
 * Reads the sql source's listing row by row into what is to be copied: the exclusions that the server's own base
 * backup applies are the client's here (seeds: sendDir in PostgreSQL's basebackup.c), and nothing listed is believed.
 */
import { ConvoyError } from '../errors.js';
import { MAX_LISTED_ENTRIES } from '../limits.js';
import {
  initForkName,
  isDatabaseDirectory,
  isEmptiedDirectory,
  parseRelationFileName,
} from '../pgdata/exclusions.js';
import { isPlainRelativePath, whyNotListed } from '../pgdata/listed-path.js';
import type { SourceFile } from './source.js';

export interface SqlListOptions {
  /** The directories that pg_wal has in this release. */
  readonly walDirectories: readonly string[];
  /** Oids of the tablespaces of the backup that are reached by a link. */
  readonly linkedTablespaces: ReadonlySet<number>;
  /** Oids of those that are directories in pg_tblspc (allow_in_place_tablespaces). */
  readonly inPlaceTablespaces: ReadonlySet<number>;
  /** The directory of a tablespace that belongs to this cluster, "PG_15_202209061". */
  readonly versionDirectory: string;
  /** Relative to the data directory: tablespaces that lie inside it, listed below pg_tblspc as well. */
  readonly insideDirectories: readonly string[];
  /** stats_temp_directory, relative, where it is not the default. */
  readonly statsTempDirectory: string | undefined;
}

/** The last second of the year 9999, which is as far as the manifest's times go. */
const MAX_MTIME = 253_402_300_799;

/** A socket of the server, where unix_socket_directories is in the data directory (UNIXSOCK_PATH). */
const SOCKET_NAME = /^\.s\.PGSQL\.\d+$/;

const TABLESPACES_PREFIX = 'pg_tblspc/';
const TABLESPACE_PATH = /^pg_tblspc\/(\d+)(?:\/(.+))?$/s;

export class SqlListReader {
  readonly #options: SqlListOptions;
  readonly #files: SourceFile[] = [];
  readonly #directories: string[] = [];
  readonly #seen = new Set<string>();
  #rows = 0;
  /** The first path whose bytes were not UTF-8. */
  #undecoded: string | undefined;
  /** Paths of init forks, without "_init". */
  readonly #unlogged = new Set<string>();
  /** Directories that only the directories themselves are kept of. */
  readonly #emptied: readonly string[];
  /** Whether what lies in a directory is left out. */
  readonly #leftOut = new Map<string, boolean>();

  constructor(options: SqlListOptions) {
    this.#options = options;
    const { insideDirectories, statsTempDirectory } = options;
    // empty, it is the data directory itself
    this.#emptied = statsTempDirectory ? [...insideDirectories, statsTempDirectory] : insideDirectories;
  }

  /** A row of the listing, as text. @throws ConvoyError `untrusted_peer` */
  add([path, isDirectory, size, mtime]: readonly string[]): void {
    if (path === undefined || !isPlainRelativePath(path)) throw badRow(path);
    this.#rows += 1;
    if (this.#rows > MAX_LISTED_ENTRIES) {
      throw new ConvoyError('untrusted_peer', `the server listed more than ${MAX_LISTED_ENTRIES} files`);
    }
    if (path.includes('\u{fffd}')) {
      // several names may look the same like this
      this.#undecoded ??= path;
      return;
    }
    const inTablespace = path.startsWith(TABLESPACES_PREFIX) ? TABLESPACE_PATH.exec(path) : null;
    if (inTablespace !== null && !this.#isOfBackup(inTablespace)) return;
    const oid = Number(inTablespace?.[1]);
    const tablespace = this.#options.linkedTablespaces.has(oid) ? oid : undefined;
    const rulePath = tablespace === undefined ? path : (inTablespace?.[2] ?? '');
    // SQL does not tell it from a file, and cannot read it
    const { directory, name } = split(path);
    if (SOCKET_NAME.test(name)) return;
    if (whyNotListed(rulePath) !== undefined || this.#isLeftOut(directory)) return;
    if (this.#seen.has(path)) throw new ConvoyError('untrusted_peer', `"${path}" is listed twice`);
    this.#seen.add(path);
    if (isDirectory === 't') {
      this.#directories.push(path);
      // listed without its content, but these two
      if (path === 'pg_wal') this.#directories.push(...this.#options.walDirectories);
      return;
    }
    const bytes = checkedNumber(size, Number.MAX_SAFE_INTEGER, path);
    this.#noteInitFork(path, rulePath);
    this.#files.push({
      source: path,
      target: path,
      size: bytes,
      mtime: checkedNumber(mtime, MAX_MTIME, path),
      tablespace,
    });
  }

  /**
   * Only tablespaces that existed when the backup started: replay creates later ones itself, and fails where it finds
   * a directory in place of their link. Of a linked one only this cluster's directory; the link is made from the list.
   */
  #isOfBackup([, oid, below]: RegExpExecArray): boolean {
    const { linkedTablespaces, inPlaceTablespaces, versionDirectory } = this.#options;
    if (!linkedTablespaces.has(Number(oid))) return inPlaceTablespaces.has(Number(oid));
    return below === versionDirectory || below?.startsWith(`${versionDirectory}/`) === true;
  }

  /** @throws ConvoyError `file_damaged` where a name is not UTF-8 */
  finish(): { readonly files: readonly SourceFile[]; readonly directories: readonly string[] } {
    if (this.#undecoded !== undefined) {
      const message = `file name in the data directory is not valid UTF-8: "${this.#undecoded}"`;
      throw new ConvoyError('file_damaged', message);
    }
    const isAllLogged = this.#unlogged.size === 0;
    return {
      files: isAllLogged ? this.#files : this.#files.filter((file) => !this.#isUnloggedData(file.target)),
      directories: this.#directories,
    };
  }

  /** Content of directories that only the directories themselves are kept of. */
  #isLeftOut(directory: string): boolean {
    let isLeftOut = this.#leftOut.get(directory);
    if (isLeftOut === undefined) {
      isLeftOut =
        this.#emptied.some((emptied) => `${directory}/`.startsWith(`${emptied}/`)) ||
        directory.split('/').some(isEmptiedDirectory);
      this.#leftOut.set(directory, isLeftOut);
    }
    return isLeftOut;
  }

  #noteInitFork(path: string, rulePath: string): void {
    if (!path.endsWith('_init')) return;
    const { directory, name } = split(path);
    const relation = isDatabaseDirectory(split(rulePath).directory) ? parseRelationFileName(name) : undefined;
    if (relation?.fork === 'init') this.#unlogged.add(`${directory}/${initForkName(relation)}`);
  }

  #isUnloggedData(path: string): boolean {
    const { directory, name } = split(path);
    const relation = parseRelationFileName(name);
    if (relation === undefined || relation.fork === 'init') return false;
    return this.#unlogged.has(`${directory}/${initForkName(relation)}`);
  }
}

function checkedNumber(text: string | undefined, max: number, path: string): number {
  const value = Number(text ?? Number.NaN);
  if (!Number.isSafeInteger(value) || value < 0 || value > max) throw badRow(path);
  return value;
}

function split(path: string): { directory: string; name: string } {
  const at = path.lastIndexOf('/');
  return { directory: path.slice(0, Math.max(at, 0)), name: path.slice(at + 1) };
}

function badRow(path: string | undefined): ConvoyError {
  return new ConvoyError(
    'untrusted_peer',
    `the server listed an invalid path: "${String(path).slice(0, 200)}"`,
  );
}
