/*
 * Reads the sql source's listing row by row into what is to be copied: the exclusions that the server's own base
 * backup applies are the client's here (seeds: sendDir in PostgreSQL's basebackup.c), and nothing listed is believed.
 */
import { ConvoyError } from '../errors.js';
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
  /** Oids of tablespaces that are reached by a link; others are directories in pg_tblspc ("in place"). */
  readonly linkedTablespaces: ReadonlySet<number>;
  /** Relative to the data directory: tablespaces that lie inside it, listed below pg_tblspc as well. */
  readonly insideDirectories: readonly string[];
  /** stats_temp_directory, relative, where it is not the default. */
  readonly statsTempDirectory: string | undefined;
}

const TABLESPACE_PATH = /^pg_tblspc\/(\d+)(?:\/(.+))?$/;

export class SqlListReader {
  readonly #options: SqlListOptions;
  readonly #files: SourceFile[] = [];
  readonly #directories: string[] = [];
  readonly #seen = new Set<string>();
  /** Paths of init forks, without "_init". */
  readonly #unlogged = new Set<string>();

  constructor(options: SqlListOptions) {
    this.#options = options;
  }

  /** A row of the listing, as text. */
  add([path, isDirectory, size, mtime]: readonly (string | null)[]): void {
    if (typeof path !== 'string' || !isPlainRelativePath(path)) throw badRow(path);
    const inTablespace = TABLESPACE_PATH.exec(path);
    const oid = inTablespace === null ? undefined : Number(inTablespace[1]);
    const tablespace = oid !== undefined && this.#options.linkedTablespaces.has(oid) ? oid : undefined;
    // the link itself is made from the list of tablespaces
    if (tablespace !== undefined && inTablespace?.[2] === undefined) return;
    const rulePath = tablespace === undefined ? path : (inTablespace?.[2] ?? '');
    if (whyNotListed(rulePath) !== undefined || this.#isLeftOut(path)) return;
    if (this.#seen.has(path)) throw new ConvoyError('untrusted_peer', `"${path}" is listed twice`);
    this.#seen.add(path);
    if (isDirectory === 't') {
      this.#directories.push(path);
      // listed without its content, but these two
      if (path === 'pg_wal') this.#directories.push(...this.#options.walDirectories);
      return;
    }
    const bytes = Number(size);
    if (!Number.isSafeInteger(bytes) || bytes < 0) throw badRow(path);
    this.#noteInitFork(path, rulePath);
    this.#files.push({ source: path, target: path, size: bytes, mtime: Number(mtime), tablespace });
  }

  finish(): { readonly files: readonly SourceFile[]; readonly directories: readonly string[] } {
    return {
      files: this.#files.filter((file) => !this.#isUnloggedData(file.target)),
      directories: this.#directories,
    };
  }

  /** Content of directories that only the directories themselves are kept of. */
  #isLeftOut(path: string): boolean {
    const { insideDirectories, statsTempDirectory } = this.#options;
    const emptied =
      statsTempDirectory === undefined ? insideDirectories : [...insideDirectories, statsTempDirectory];
    if (emptied.some((directory) => path.startsWith(`${directory}/`))) return true;
    return path.split('/').slice(0, -1).some(isEmptiedDirectory);
  }

  #noteInitFork(path: string, rulePath: string): void {
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

function split(path: string): { directory: string; name: string } {
  const at = path.lastIndexOf('/');
  return { directory: path.slice(0, Math.max(at, 0)), name: path.slice(at + 1) };
}

function badRow(path: string | null | undefined): ConvoyError {
  return new ConvoyError(
    'untrusted_peer',
    `the server listed an invalid path: "${String(path).slice(0, 200)}"`,
  );
}
