/*
 * Fills archives that are written as streams: compressed ones, and the one on standard output. The members of a task
 * follow each other without a gap, and reach the archive when the task is complete.
 */
import { CRC32 } from '../crc-combine.js';
import { ConvoyError } from '../errors.js';
import { encodeTarHeader, TAR_END, tarPadding } from '../tar/tar-encoding.js';
import { ArchiveFileOutlet } from './archive-file-outlet.js';
import { archiveCount, archivePath, memberPlace } from './archive-layout.js';
import { ArchiveState } from './archive-state.js';
import { ArchiveStream, type PieceOutlet } from './archive-stream.js';
import type { ArchiveWriter } from './archive-writer.js';
import { BlockWrites } from './block-writes.js';
import type { BlockCompressor } from './compression/block-compressor.js';
import { openCompressor } from './compression/open-compressor.js';
import { StandardOutputOutlet } from './standard-output-outlet.js';
import type { ArchiveStretch, ArchiveTargetSpec, FileWriter, TargetFile, TurnOrder } from './target.js';

export class StreamedArchiveWriter implements ArchiveWriter {
  readonly #spec: ArchiveTargetSpec;
  readonly #state: ArchiveState;
  readonly #compressor: BlockCompressor;
  readonly #streams = new Map<number, ArchiveStream>();
  readonly #writes = new BlockWrites();
  #isClosed = false;

  constructor(spec: ArchiveTargetSpec) {
    this.#spec = spec;
    this.#state = new ArchiveState(spec.state, archiveCount(spec));
    this.#compressor = openCompressor(spec.compression);
  }

  /** The task in hand has the first part of these. */
  readonly #begun: number[] = [];

  get turns(): TurnOrder {
    return {
      await: (turn) => this.#state.awaitTurn(turn),
      hasBegun: (slot) => this.#state.hasBegun(slot),
      pass: () => this.#state.passTurn(),
    };
  }

  /** A part of a file: the first has the header, the last the padding. */
  createFile({ path, size, mode, mtime, owner, offset, wholeSize = size, slot }: TargetFile): FileWriter {
    const { archive, name } = memberPlace(this.#spec, path);
    const stream = this.#stream(archive);
    if ((offset ?? 0) === 0) {
      void stream.write(encodeTarHeader({ name, type: 'file', size: wholeSize, mode, mtime, owner }));
    }
    if (offset === 0 && slot !== undefined) this.#begun.push(slot);
    const isLast = (offset ?? 0) + size === wholeSize;
    return {
      size,
      write: (chunk) => stream.write(chunk),
      finish: () => {
        if (isLast) void stream.write(Buffer.alloc(tarPadding(wholeSize)));
      },
      // the task is rolled back
      abandon: () => {},
    };
  }

  async commit(): Promise<ArchiveStretch[]> {
    this.#throwIfClosed();
    for (const slot of this.#begun.splice(0)) this.#state.markBegun(slot);
    const stretches: ArchiveStretch[] = [];
    for (const [archive, stream] of this.#streams) {
      // oxlint-disable-next-line eslint/no-await-in-loop
      const committed = await stream.commit();
      if (committed !== undefined && this.#compressor.needsCrc) stretches.push({ archive, ...committed });
    }
    return stretches;
  }

  async rollback(): Promise<boolean> {
    this.#begun.length = 0;
    const taken = await Promise.all([...this.#streams.values()].map((stream) => stream.rollback()));
    return taken.every(Boolean);
  }

  append(archive: number, blocks: Buffer): Promise<void> | undefined {
    return this.#stream(archive).write(blocks);
  }

  async begin(): Promise<void> {
    for (let archive = 0; archive < archiveCount(this.#spec); archive += 1) {
      // oxlint-disable-next-line eslint/no-await-in-loop
      await this.#stream(archive).putRaw(this.#compressor.head);
    }
  }

  async end(stretches: readonly ArchiveStretch[]): Promise<void> {
    for (let archive = 0; archive < archiveCount(this.#spec); archive += 1) {
      void this.append(archive, TAR_END);
    }
    const all = [...stretches, ...(await this.commit())];
    for (const [archive, stream] of this.#streams) {
      const { rawBytes, rawCrc } = joinStretches(all.filter((stretch) => stretch.archive === archive));
      // oxlint-disable-next-line eslint/no-await-in-loop
      await stream.putRaw(this.#compressor.tail(rawBytes, rawCrc));
      // oxlint-disable-next-line eslint/no-await-in-loop
      await stream.settle();
    }
  }

  /** Nothing can be added any more, and no end be written. */
  close(): void {
    this.#isClosed = true;
    for (const stream of this.#streams.values()) stream.close();
    this.#streams.clear();
  }

  #throwIfClosed(): void {
    if (this.#isClosed) throw new ConvoyError('cancelled', 'the archive was given up');
  }

  #stream(archive: number): ArchiveStream {
    this.#throwIfClosed();
    const known = this.#streams.get(archive);
    if (known !== undefined) return known;
    const stream = new ArchiveStream(this.#compressor, this.#outlet(archive));
    this.#streams.set(archive, stream);
    return stream;
  }

  #outlet(archive: number): PieceOutlet {
    if (this.#spec.directory === undefined) return new StandardOutputOutlet(this.#state);
    return new ArchiveFileOutlet(archivePath(this.#spec, archive), this.#state, archive, this.#writes);
  }
}

/** Length and CRC-32 of all, in the order in which they lie in the archive. */
function joinStretches(stretches: readonly ArchiveStretch[]): Pick<ArchiveStretch, 'rawBytes' | 'rawCrc'> {
  let rawBytes = 0;
  let rawCrc = 0;
  for (const stretch of stretches.toSorted((a, b) => a.place - b.place)) {
    rawCrc = CRC32.combine(rawCrc, stretch.rawCrc, stretch.rawBytes);
    rawBytes += stretch.rawBytes;
  }
  return { rawBytes, rawCrc };
}
