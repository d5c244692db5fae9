/*
 * A worker's copy task: files that lie on this machine, by themselves or at their places in an archive, go to the target.
 */
import { closeSync, openSync, readSync } from 'node:fs';
import { ConvoyError, fileError } from '../errors.js';
import type { FileToRestore, RestoredFile, RestoreSettings } from './messages.js';
import { RestoredFileWriter } from './restored-file-writer.js';

/** A multiple of the directory target's blocks, which then go out as they are. */
const READ_BYTES = 1024 * 1024;

let buffer: Buffer | undefined;

/** @throws ConvoyError the first thing that went wrong */
export function copyFiles(files: readonly FileToRestore[], settings: RestoreSettings): RestoredFile[] {
  const writer = new RestoredFileWriter(settings);
  const origin = new OpenFile();
  try {
    for (const file of files) copyFile(file, origin, writer);
    return writer.files;
  } catch (error) {
    writer.abandon();
    throw error;
  } finally {
    origin.close();
  }
}

function copyFile(file: FileToRestore, origin: OpenFile, writer: RestoredFileWriter): void {
  const { path, size, mode, mtime, range } = file;
  const length = range?.length ?? size;
  const start = file.origin.offset + (range?.offset ?? 0);
  origin.open(file.origin.file);
  const part = range === undefined ? undefined : { offset: range.offset, wholeBytes: size };
  writer.begin({ path, size: length, mode, mtime, offset: range?.offset }, part);
  buffer ??= Buffer.allocUnsafeSlow(READ_BYTES);
  for (let done = 0; done < length;) {
    const chunk = buffer.subarray(0, Math.min(READ_BYTES, length - done));
    const count = origin.read(chunk, start + done);
    writer.write(chunk.subarray(0, count));
    done += count;
  }
  writer.end();
}

/** The file that is read from; the same archive for many members. */
class OpenFile {
  #path = '';
  #descriptor: number | undefined;

  open(path: string): void {
    if (this.#path === path && this.#descriptor !== undefined) return;
    this.close();
    try {
      this.#descriptor = openSync(path, 'r');
      this.#path = path;
    } catch (error) {
      throw fileError('open file', path, error);
    }
  }

  /** @returns bytes read, never 0 */
  read(into: Buffer, position: number): number {
    let count = 0;
    try {
      if (this.#descriptor !== undefined) count = readSync(this.#descriptor, into, 0, into.length, position);
    } catch (error) {
      throw fileError('read file', this.#path, error);
    }
    if (count > 0) return count;
    throw new ConvoyError('target_io', `could not read file "${this.#path}": unexpected end of file`);
  }

  close(): void {
    if (this.#descriptor !== undefined) closeSync(this.#descriptor);
    this.#descriptor = undefined;
  }
}
