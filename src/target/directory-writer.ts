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

/** The absolute path of a file of the backup. */
export function resolveInDirectory(spec: DirectoryTargetSpec, path: string): string {
  const match = /^pg_tblspc\/(\d+)\/(.+)$/.exec(path);
  if (match !== null) {
    const oid = Number(match[1]);
    const tablespace = spec.tablespaces.find((candidate) => candidate.oid === oid);
    if (tablespace !== undefined) return `${tablespace.location}/${match[2]}`;
  }
  return `${spec.directory}/${path}`;
}

export class DirectoryWriter implements Target {
  readonly #spec: DirectoryTargetSpec;

  constructor(spec: DirectoryTargetSpec) {
    this.#spec = spec;
  }

  createFile(file: TargetFile): FileWriter {
    return new DirectoryFileWriter(resolveInDirectory(this.#spec, file.path), file);
  }
}

class DirectoryFileWriter implements FileWriter {
  readonly #path: string;
  readonly #file: TargetFile;
  readonly #descriptor: number;
  #position: number;

  constructor(path: string, file: TargetFile) {
    this.#path = path;
    this.#file = file;
    this.#position = file.offset ?? 0;
    try {
      // a part leaves the others alone
      this.#descriptor =
        file.offset === undefined ? openAnew(path) : openSync(path, CREATE_FLAGS, OWNER_MODE);
    } catch (error) {
      throw fileError('create file', path, error);
    }
  }

  write(chunk: Uint8Array): void {
    try {
      for (let written = 0; written < chunk.length;) {
        const bytes = writeSync(this.#descriptor, chunk, written, chunk.length - written, this.#position);
        written += bytes;
        this.#position += bytes;
      }
    } catch (error) {
      throw fileError('write file', this.#path, error);
    }
  }

  finish(): void {
    const { mode, mtime } = this.#file;
    try {
      if (mode !== OWNER_MODE) fchmodSync(this.#descriptor, mode);
      futimesSync(this.#descriptor, mtime, mtime);
      closeSync(this.#descriptor);
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
