/*
 * Text that is added to files of the cluster on their way to the target: the recovery settings at the end of
 * postgresql.auto.conf. Stacked onto any target by open-target.ts; what is above it, checksums and counts, sees the
 * server's bytes alone, as in pg_basebackup's manifest.
 */
import { ConvoyError } from '../errors.js';
import type { ArchiveStretch, FileWriter, Target, TargetFile, TurnOrder } from './target.js';

export interface AddedText {
  /** Relative to the data directory. */
  readonly path: string;
  readonly text: string;
}

export class TargetWithAddedText implements Target {
  readonly #inner: Target;
  readonly #added: ReadonlyMap<string, Buffer>;

  constructor(inner: Target, added: readonly AddedText[]) {
    this.#inner = inner;
    this.#added = new Map(added.map(({ path, text }) => [path, Buffer.from(text)]));
  }

  /** @throws ConvoyError `target_io` also where the file is so large that workers share it */
  createFile(file: TargetFile): FileWriter {
    const addition = this.#added.get(file.path);
    if (addition === undefined) return this.#inner.createFile(file);
    if (file.offset !== undefined) {
      throw new ConvoyError('target_io', `could not add to file "${file.path}": it is too large`);
    }
    const writer = this.#inner.createFile({
      ...file,
      size: file.size + addition.length,
      wholeSize: (file.wholeSize ?? file.size) + addition.length,
    });
    return {
      size: writer.size - addition.length,
      write: (chunk) => writer.write(chunk),
      finish() {
        void writer.write(addition);
        writer.finish();
      },
      abandon: () => writer.abandon(),
    };
  }

  get turns(): TurnOrder | undefined {
    return this.#inner.turns;
  }

  commit(): Promise<readonly ArchiveStretch[]> {
    return this.#inner.commit();
  }

  rollback(): Promise<boolean> {
    return this.#inner.rollback();
  }
}
