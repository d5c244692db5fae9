/*
 * Standard output as bytes: a pipe is opened anew for this thread and written without blocking, so that a reader who
 * takes his time does not keep the thread from hearing that it is to end; anything else (a file, a terminal) is written as
 * it is. Used by standard-output-outlet.ts.
 */
import { constants, fstatSync, openSync, writeSync } from 'node:fs';
import { Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { fileError, isSystemError } from '../errors.js';

const DESCRIPTOR = 1;
const NAME = 'standard output';
/** A descriptor that somebody else made non-blocking and that is full for now. */
const FULL_PAUSE_MS = 2;

export class StandardOutput {
  #pipe: Socket | undefined;
  #isOpen = false;
  #failure: Error | undefined;

  /** @throws ConvoyError `target_io`; a reader who is gone is `Broken pipe` */
  async write(bytes: Buffer): Promise<void> {
    try {
      this.#open();
      if (this.#pipe === undefined) await writeAll(bytes);
      else await this.#writePipe(this.#pipe, bytes);
    } catch (error) {
      throw fileError('write to', NAME, error);
    }
  }

  close(): void {
    this.#pipe?.destroy();
  }

  #open(): void {
    if (this.#isOpen) return;
    this.#isOpen = true;
    if (!fstatSync(DESCRIPTOR).isFIFO()) return;
    try {
      const flags = constants.O_WRONLY | constants.O_NONBLOCK;
      this.#pipe = new Socket({
        fd: openSync(`/proc/self/fd/${DESCRIPTOR}`, flags),
        readable: false,
        writable: true,
      });
      this.#pipe.on('error', (error) => (this.#failure ??= error));
    } catch (error) {
      // another account's pipe; or no /proc
      if (!isSystemError(error, 'EACCES') && !isSystemError(error, 'ENOENT')) throw error;
    }
  }

  async #writePipe(pipe: Socket, bytes: Buffer): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure;
    await new Promise<void>((resolve, reject) => {
      pipe.write(bytes, (error) => (error ? reject(error) : resolve()));
    });
  }
}

async function writeAll(bytes: Buffer): Promise<void> {
  for (let written = 0; written < bytes.length;) {
    try {
      written += writeSync(DESCRIPTOR, bytes, written);
    } catch (error) {
      if (!isSystemError(error, 'EAGAIN')) throw error;
      // oxlint-disable-next-line eslint/no-await-in-loop
      await delay(FULL_PAUSE_MS);
    }
  }
}
