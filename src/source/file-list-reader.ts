/*
 * Reads the answer to SEND_BACKUP_FILELIST row by row into what is to be copied, and believes none of it: every
 * path is plain, lies where its result set says, and is named once.
 */
import { ConvoyError } from '../errors.js';
import { MAX_LISTED_ENTRIES } from '../limits.js';
import { isPlainRelativePath, whyNotListed } from '../pgdata/listed-path.js';
import { decodeListedFile, type ListedFile, type TextRow } from '../replication/result-sets.js';
import type { SourceFile, SourceTablespace } from './source.js';

export interface ListedDirectory {
  readonly source: string;
  readonly target: string;
  readonly size: number;
  readonly mtime: number;
}

export interface ReadList {
  readonly files: readonly SourceFile[];
  readonly directories: readonly ListedDirectory[];
}

const LINK_PATH = /^pg_tblspc\/(\d+)$/;
const VERSION_DIRECTORY = /^PG_(\d+)_\d+$/;
const FOUR_GIBIBYTES = 2 ** 32;
/** Our manifest is written under this name; what an earlier backup left there is not part of the cluster. */
const UNFINISHED_MANIFEST = 'backup_manifest.tmp';

export class FileListReader {
  readonly #tablespaces: readonly SourceTablespace[];
  readonly #major: number;
  readonly #files: SourceFile[] = [];
  readonly #directories: ListedDirectory[] = [];
  readonly #seen = new Set<string>();
  #lastSet = -1;

  constructor(tablespaces: readonly SourceTablespace[], major: number) {
    this.#tablespaces = tablespaces;
    this.#major = major;
  }

  /** @param setIndex which result set: the tablespaces in their order, then the data directory */
  add(setIndex: number, row: TextRow): void {
    this.#lastSet = setIndex;
    if (setIndex > this.#tablespaces.length) return;
    const listed = decodeListedFile(row);
    const tablespace = this.#tablespaces[setIndex];
    if (tablespace === undefined) this.#addToDataDirectory(listed);
    else this.#addToTablespace(listed, tablespace);
  }

  /** @throws ConvoyError where the list belongs to other tablespaces than the backup */
  finish(): ReadList {
    if (this.#lastSet !== this.#tablespaces.length) {
      throw new ConvoyError('server_error', 'a tablespace was created or dropped while the backup started', {
        hint: 'try again',
      });
    }
    return { files: this.#files, directories: this.#directories };
  }

  #addToDataDirectory(listed: ListedFile): void {
    const relativePath = listed.path.startsWith('./') ? listed.path.slice(2) : '';
    if (!isPlainRelativePath(relativePath)) throw badPath(listed.path);
    const linked = this.#linkedTablespace(relativePath);
    if (linked !== undefined && (listed.type !== 'link' || !LINK_PATH.test(relativePath))) {
      throw badPath(listed.path);
    }
    // links are made from the list of tablespaces, one that appeared since then by WAL replay
    if (listed.type === 'link' && !LINK_PATH.test(relativePath)) throw badPath(listed.path);
    if (listed.type === 'link' || this.#isInsideTablespace(relativePath)) return;
    this.#add(listed, relativePath, undefined);
  }

  #addToTablespace(listed: ListedFile, { oid, location }: SourceTablespace): void {
    const relativePath = listed.path.startsWith(`${location}/`) ? listed.path.slice(location.length + 1) : '';
    const major = VERSION_DIRECTORY.exec(relativePath.split('/', 1)[0] ?? '')?.[1];
    if (!isPlainRelativePath(relativePath) || Number(major) !== this.#major) throw badPath(listed.path);
    if (listed.type === 'link') throw badPath(listed.path);
    this.#add(listed, relativePath, oid);
  }

  #add(listed: ListedFile, relativePath: string, tablespace: number | undefined): void {
    if (whyNotListed(relativePath) !== undefined || relativePath === UNFINISHED_MANIFEST) return;
    // bytes that are not UTF-8 have become this: asked for by such a name, the file would count as vanished
    if (relativePath.includes('\u{fffd}')) {
      throw new ConvoyError('file_damaged', `file name is not valid UTF-8: "${listed.path}"`);
    }
    const target = tablespace === undefined ? relativePath : `pg_tblspc/${tablespace}/${relativePath}`;
    if (this.#seen.size >= MAX_LISTED_ENTRIES) {
      throw new ConvoyError('untrusted_peer', `the server listed more than ${MAX_LISTED_ENTRIES} files`);
    }
    if (this.#seen.has(target)) throw new ConvoyError('untrusted_peer', `"${listed.path}" is listed twice`);
    this.#seen.add(target);
    if (listed.type === 'directory') {
      this.#directories.push({ source: listed.path, target, size: 0, mtime: listed.mtime });
      return;
    }
    // the patched server's sizes are 32 bits wide
    const size = listed.size < 0 ? listed.size + FOUR_GIBIBYTES : listed.size;
    if (size < 0) throw new ConvoyError('untrusted_peer', `invalid size of "${listed.path}": ${listed.size}`);
    this.#files.push({ source: listed.path, target, size, mtime: listed.mtime, tablespace });
  }

  /** The tablespace below whose link the path lies, or which it is. */
  #linkedTablespace(relativePath: string): SourceTablespace | undefined {
    const oid = Number(/^pg_tblspc\/(\d+)(?:\/|$)/.exec(relativePath)?.[1] ?? Number.NaN);
    return this.#tablespaces.find((tablespace) => tablespace.oid === oid);
  }

  /** A tablespace inside the data directory: the patched server lists its files here a second time (PROTOCOL rule 7). */
  #isInsideTablespace(relativePath: string): boolean {
    return this.#tablespaces.some(({ location }) => {
      const at = relativePath.search(/\/PG_\d+_\d+(?:\/|$)/);
      return at > 0 && location.endsWith(`/${relativePath.slice(0, at)}`);
    });
  }
}

function badPath(path: string): ConvoyError {
  return new ConvoyError('untrusted_peer', `the server listed an invalid path: "${path.slice(0, 200)}"`);
}
