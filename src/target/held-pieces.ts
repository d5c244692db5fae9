/*
 * Compressed pieces that wait until their task is complete: in memory up to a bound, in a file without a name beyond it.
 * Held by archive-file-outlet.ts, which copies them to their place.
 */
import { randomUUID } from 'node:crypto';
import { closeSync, ftruncateSync, openSync, readSync, unlinkSync, writeSync } from 'node:fs';
import path from 'node:path';
import { fileError } from '../errors.js';
import { PieceMemory } from './piece-memory.js';

const COPY_BYTES = 1024 * 1024;

export class HeldPieces {
  readonly #archive: string;
  readonly #memory = new PieceMemory();
  #descriptor: number | undefined;
  #fileBytes = 0;

  /** @param archive that the pieces go to in the end: the file is made beside it, and errors name it */
  constructor(archive: string) {
    this.#archive = archive;
  }

  get bytes(): number {
    return this.#fileBytes + this.#memory.bytes;
  }

  /** @param pieces borrowed. @throws ConvoyError `target_io` */
  add(pieces: readonly Buffer[]): void {
    if (!this.#memory.hasRoom(pieces)) this.#spill();
    this.#memory.add(pieces);
  }

  /** All of it, in order; what is yielded is valid until the next is asked for. @throws ConvoyError `target_io` */
  *take(): Generator<Buffer> {
    if (this.#fileBytes > 0) yield* this.#readFile();
    yield this.#memory.content;
    this.clear();
  }

  clear(): void {
    this.#memory.clear();
    this.#fileBytes = 0;
    if (this.#descriptor !== undefined) ftruncateSync(this.#descriptor, 0);
  }

  close(): void {
    if (this.#descriptor !== undefined) closeSync(this.#descriptor);
    this.#descriptor = undefined;
  }

  #spill(): void {
    const name = path.join(path.dirname(this.#archive), `.${randomUUID()}.tmp`);
    try {
      if (this.#descriptor === undefined) {
        this.#descriptor = openSync(name, 'wx+', 0o600);
        unlinkSync(name);
      }
      writeWhole(this.#descriptor, this.#memory.content, this.#fileBytes);
      this.#fileBytes += this.#memory.bytes;
    } catch (error) {
      throw fileError('write file', this.#archive, error);
    }
    this.#memory.clear();
  }

  *#readFile(): Generator<Buffer> {
    const block = Buffer.allocUnsafe(COPY_BYTES);
    for (let done = 0; done < this.#fileBytes;) {
      const count = readSync(this.#descriptor ?? -1, block, 0, block.length, done);
      if (count === 0) throw new Error('a temporary file ended early');
      yield block.subarray(0, count);
      done += count;
    }
  }
}

/** Writes all of it at a position. */
export function writeWhole(descriptor: number, bytes: Uint8Array, position: number): void {
  for (let written = 0; written < bytes.length;) {
    written += writeSync(descriptor, bytes, written, bytes.length - written, position + written);
  }
}
