/*
 * Writes files into a plain directory target. All calls are synchronous: a worker thread has nothing else to do,
 * and the bytes are in a buffer that the next read overwrites.
 */
import {
  closeSync,
  constants,
  fchmodSync,
  fsyncSync,
  futimesSync,
  openSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { fileError, isSystemError } from '../errors.js';
import type { DirectoryTargetSpec, FileWriter, Target, TargetFile } from './target.js';

/** No link is ever followed in the last component. */
const CREATE_FLAGS = constants.O_WRONLY | constants.O_CREAT | constants.O_NOFOLLOW;
/** PG_FILE_MODE_OWNER: a umask takes nothing from it. */
const OWNER_MODE = 0o600;

export const WAL_PATH = 'pg_wal';

/** The absolute path of a file of the backup. */
export function resolveInDirectory(spec: DirectoryTargetSpec, path: string): string {
  const match = /^pg_tblspc\/(\d+)\/(.+)$/s.exec(path);
  if (match !== null) {
    const oid = Number(match[1]);
    const tablespace = spec.tablespaces.find((candidate) => candidate.oid === oid);
    if (tablespace !== undefined) return `${tablespace.location}/${match[2]}`;
  }
  return `${spec.directory}/${path}`;
}

/** True for a directory of the backup in whose place there is a link: that of a tablespace, or of WAL that lies elsewhere. */
export function isLinked({ tablespaces, walDirectory }: DirectoryTargetSpec, path: string): boolean {
  if (path === WAL_PATH) return walDirectory !== undefined;
  return tablespaces.some(({ oid }) => path === `pg_tblspc/${oid}`);
}

/**
 * What arrives in odd pieces is gathered to blocks of this, which begin at multiples of it: measured on ext4, the kernel
 * takes a third of the time for them that it takes for pieces of 14 kB, and the copy in the cache costs far less. What ends a
 * file, with nothing gathered before it, is written as it is: small files, which come whole.
 */
const BLOCK_BYTES = 256 * 1024;

export class DirectoryWriter implements Target {
  readonly #spec: DirectoryTargetSpec;
  /** Blocks of files that are finished; a thread writes one file at a time, so there is one. */
  readonly #blocks: Buffer[] = [];

  constructor(spec: DirectoryTargetSpec) {
    this.#spec = spec;
  }

  createFile(file: TargetFile): FileWriter {
    return new DirectoryFileWriter(resolveInDirectory(this.#spec, file.path), file, this.#blocks);
  }

  /** Files are where they belong already. */
  commit(): Promise<[]> {
    return Promise.resolve([]);
  }

  /** Files of a task that is done again are written anew. */
  rollback(): Promise<boolean> {
    return Promise.resolve(true);
  }
}

class DirectoryFileWriter implements FileWriter {
  readonly size: number;
  readonly #path: string;
  readonly #file: TargetFile;
  readonly #descriptor: number;
  readonly #blocks: Buffer[];
  readonly #block: Buffer;
  /** Bytes of the block that are not written yet; they belong at `#position`. */
  #held = 0;
  #position: number;
  /** Of what is to come. */
  readonly #end: number;

  /** @param blocks where a block is taken from and given back to */
  constructor(path: string, file: TargetFile, blocks: Buffer[]) {
    this.size = file.size;
    this.#path = path;
    this.#file = file;
    this.#position = file.offset ?? 0;
    this.#end = this.#position + file.size;
    this.#blocks = blocks;
    this.#block = blocks.pop() ?? Buffer.allocUnsafeSlow(BLOCK_BYTES);
    try {
      // a part leaves the others alone
      this.#descriptor =
        file.offset === undefined ? openAnew(path) : openSync(path, CREATE_FLAGS, OWNER_MODE);
    } catch (error) {
      throw fileError('create file', path, error);
    }
  }

  write(chunk: Uint8Array): undefined {
    for (let taken = 0; taken < chunk.length;) {
      const room = BLOCK_BYTES - (this.#position % BLOCK_BYTES) - this.#held;
      const bytes = Math.min(room, chunk.length - taken);
      const part = chunk.subarray(taken, taken + bytes);
      taken += bytes;
      const isLast = this.#position + this.#held + bytes === this.#end;
      if (bytes === BLOCK_BYTES || (isLast && this.#held === 0)) {
        this.#writeOut(part);
        continue;
      }
      this.#block.set(part, this.#held);
      this.#held += bytes;
      if (bytes === room) this.#flush();
    }
  }

  finish(): void {
    const { mode, mtime } = this.#file;
    this.#flush();
    this.#blocks.push(this.#block);
    try {
      if (mode !== OWNER_MODE) fchmodSync(this.#descriptor, mode);
      futimesSync(this.#descriptor, mtime, mtime);
      closeSync(this.#descriptor);
    } catch (error) {
      throw fileError('write file', this.#path, error);
    }
  }

  #flush(): void {
    const held = this.#held;
    this.#held = 0;
    this.#writeOut(this.#block.subarray(0, held));
  }

  #writeOut(bytes: Uint8Array): void {
    try {
      for (let written = 0; written < bytes.length;) {
        const count = writeSync(this.#descriptor, bytes, written, bytes.length - written, this.#position);
        written += count;
        this.#position += count;
      }
    } catch (error) {
      throw fileError('write file', this.#path, error);
    }
  }

  abandon(): void {
    try {
      closeSync(this.#descriptor);
    } catch {
      // given up already
    }
  }
}

/** A file of an earlier try is written anew; it may have got a mode that keeps its owner from writing. */
function openAnew(path: string): number {
  const flags = CREATE_FLAGS | constants.O_TRUNC;
  try {
    return openSync(path, flags, OWNER_MODE);
  } catch (error) {
    if (!isSystemError(error, 'EACCES')) throw error;
    unlinkSync(path);
    return openSync(path, flags, OWNER_MODE);
  }
}

/** Makes files durable. A path that is gone had vanished on the server. @throws ConvoyError `target_io` */
export function syncPaths(paths: readonly string[]): void {
  for (const path of paths) {
    try {
      const descriptor = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW);
      try {
        fsyncSync(descriptor);
      } finally {
        closeSync(descriptor);
      }
    } catch (error) {
      if (!isSystemError(error, 'ENOENT')) throw fileError('fsync file', path, error);
    }
  }
}
