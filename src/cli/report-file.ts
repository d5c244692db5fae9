/*
 * The file of --report: tried before the backup begins, so that nobody finds out hours later that it cannot be written,
 * and replaced in one step at the end, however the backup ended: one that is left from yesterday must not be taken for
 * today's.
 */
import { closeSync, fsyncSync, openSync, renameSync, rmSync, statSync, writeSync } from 'node:fs';
import path from 'node:path';
import { ConvoyError, fileError, isSystemError } from '../errors.js';

export class ReportFile {
  readonly #path: string;
  readonly #temporaryPath: string;

  /**
   * Nothing is left behind by trying.
   *
   * @param taken directories of the backup, absolute; no stray file may lie in them
   * @throws ConvoyError `usage`, `target_io`
   */
  constructor(file: string, taken: readonly string[]) {
    this.#path = path.resolve(file);
    this.#temporaryPath = `${this.#path}.${process.pid}.tmp`;
    const within = taken.find(
      (directory) => this.#path === directory || this.#path.startsWith(`${directory}/`),
    );
    if (file === '' || within !== undefined || isDirectory(this.#path)) {
      throw new ConvoyError('usage', `cannot write report to "${file}"`, {
        hint: 'option --report needs a file outside of the backup',
      });
    }
    this.#writeTemporary('');
    rmSync(this.#temporaryPath);
  }

  /** @throws ConvoyError `target_io` */
  write(report: object): void {
    this.#writeTemporary(`${JSON.stringify(report, undefined, 2)}\n`);
    try {
      renameSync(this.#temporaryPath, this.#path);
    } catch (error) {
      rmSync(this.#temporaryPath, { force: true });
      throw fileError('write report', this.#path, error);
    }
  }

  #writeTemporary(text: string): void {
    try {
      const descriptor = openSync(this.#temporaryPath, 'w', 0o600);
      try {
        writeSync(descriptor, text);
        fsyncSync(descriptor);
      } finally {
        closeSync(descriptor);
      }
    } catch (error) {
      rmSync(this.#temporaryPath, { force: true });
      throw fileError('write report', this.#path, error);
    }
  }
}

function isDirectory(at: string): boolean {
  try {
    return statSync(at).isDirectory();
  } catch (error) {
    if (isSystemError(error, 'ENOENT')) return false;
    throw fileError('access file', at, error);
  }
}
