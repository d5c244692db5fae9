/*
 * Writes one file after the other to the target and takes their checksums on the way. Used by both ways of restoring
 * files: copied from where they lie (copy-files.ts), and as they come out of an archive (extract-archive.ts).
 */
import { createFileChecksum, type ChecksumAlgorithm, type FileChecksum } from '../checksum.js';
import { ConvoyError } from '../errors.js';
import { ProgressCounters } from '../progress-counters.js';
import { openTarget } from '../target/open-target.js';
import type { FileWriter, Target, TargetFile } from '../target/target.js';
import type { RestoredFile, RestoreSettings } from './messages.js';

export class RestoredFileWriter {
  readonly files: RestoredFile[] = [];
  readonly #target: Target;
  readonly #algorithm: ChecksumAlgorithm;
  readonly #progress: ProgressCounters;
  readonly #cancelled: Int32Array;
  #file: TargetFile | undefined;
  #part: RestoredFile['part'];
  #writer: FileWriter | undefined;
  #checksum: FileChecksum | undefined;
  #bytes = 0;

  constructor({ target, algorithm, progress, cancelled }: RestoreSettings) {
    this.#target = openTarget(target);
    this.#algorithm = algorithm;
    this.#progress = new ProgressCounters(progress);
    this.#cancelled = new Int32Array(cancelled);
  }

  /** @param part which part of it is to come @throws ConvoyError */
  begin(file: TargetFile, part?: RestoredFile['part']): void {
    this.#throwIfCancelled();
    this.#writer = this.#target.createFile(file);
    this.#checksum = createFileChecksum(this.#algorithm);
    this.#file = file;
    this.#part = part;
    this.#bytes = 0;
  }

  /** The chunk is only read, before the call returns. @throws ConvoyError */
  write(chunk: Buffer): void {
    this.#throwIfCancelled();
    this.#checksum?.update(chunk);
    // a directory never asks to wait
    void this.#writer?.write(chunk);
    this.#bytes += chunk.length;
    this.#progress.add(chunk.length, 0);
  }

  /** @throws ConvoyError */
  end(): void {
    if (this.#file === undefined || this.#checksum === undefined) return;
    this.#writer?.finish();
    this.#writer = undefined;
    const part = this.#part;
    this.files.push({
      path: this.#file.path,
      size: this.#bytes,
      checksum: this.#checksum.digest(),
      algorithm: this.#algorithm,
      ...(part === undefined ? {} : { part }),
    });
    // a file in parts is counted with its first
    if (part === undefined || part.offset === 0) this.#progress.add(0, 1);
  }

  /** After a failure; never throws. */
  abandon(): void {
    this.#writer?.abandon();
    this.#writer = undefined;
  }

  #throwIfCancelled(): void {
    if (Atomics.load(this.#cancelled, 0) !== 0) {
      throw new ConvoyError('cancelled', 'the restore was cancelled');
    }
  }
}
