/*
 * Fills uncompressed archives from several threads at once: each file gets a place of its own when its first bytes arrive,
 * and is written there, ranges of one file by several threads. A task that is done again finds its files' places.
 */
import { closeSync, constants, openSync } from 'node:fs';
import { fileError } from '../errors.js';
import { encodeTarHeader, TAR_END, tarPadding, type TarMember } from '../tar/tar-encoding.js';
import { archiveCount, archivePath, memberPlace } from './archive-layout.js';
import { ArchiveState } from './archive-state.js';
import type { ArchiveWriter } from './archive-writer.js';
import { writeWhole } from './held-pieces.js';
import type { ArchiveTargetSpec, FileWriter, TargetFile } from './target.js';

/** As in directory-writer.ts: odd pieces are gathered to blocks that begin at multiples of this. */
const BLOCK_BYTES = 256 * 1024;
/** Less is written before another thread could be woken. */
const ALONE_BYTES = 64 * 1024;

interface OpenArchive {
  readonly index: number;
  readonly path: string;
  /** -1 once it is closed. */
  descriptor: number;
}

export class PlacedArchiveWriter implements ArchiveWriter {
  readonly #spec: ArchiveTargetSpec;
  readonly #state: ArchiveState;
  readonly #open = new Map<number, OpenArchive>();
  /** A thread writes one file at a time. */
  readonly #block: Buffer = Buffer.allocUnsafeSlow(BLOCK_BYTES);

  /** A disk was full, say, when a file was given up. */
  #hasLostHeader = false;

  constructor(spec: ArchiveTargetSpec) {
    this.#spec = spec;
    this.#state = new ArchiveState(spec.state, archiveCount(spec));
  }

  createFile(file: TargetFile): FileWriter {
    const { archive, name } = memberPlace(this.#spec, file.path);
    const { size, mode, mtime, owner, offset = 0, wholeSize = size, slot } = file;
    const member: TarMember = { name, type: 'file', size: wholeSize, mode, mtime, owner };
    const header = encodeTarHeader(member);
    const overhead = header.length + tarPadding(wholeSize);
    const claim =
      slot === undefined
        ? { place: this.#state.reserve(archive, wholeSize + overhead), size: wholeSize, isNew: true }
        : this.#state.claim(slot, archive, wholeSize, overhead);
    const content = claim.place + header.length;
    const writer = this.#gather(archive, content + offset);
    if (claim.isNew) writer.putBefore(header, claim.place);
    return {
      size: file.offset === undefined ? claim.size : size,
      write: (chunk) => writer.write(chunk),
      finish: () => writer.flush(),
      abandon: () => this.#keepPlace(writer),
    };
  }

  /** Files are where they belong already. */
  commit(): Promise<[]> {
    return Promise.resolve([]);
  }

  /** Files of a task that is done again are written anew, where they are. */
  rollback(): Promise<boolean> {
    return Promise.resolve(!this.#hasLostHeader);
  }

  append(archive: number, bytes: Buffer): undefined {
    const writer = this.#gather(archive, this.#state.reserve(archive, bytes.length));
    writer.write(bytes);
    writer.flush();
  }

  begin(): Promise<void> {
    return Promise.resolve();
  }

  end(): Promise<void> {
    try {
      for (let archive = 0; archive < archiveCount(this.#spec); archive += 1) this.append(archive, TAR_END);
      return Promise.resolve();
    } catch (error) {
      return Promise.reject(error);
    }
  }

  close(): void {
    for (const opened of this.#open.values()) {
      closeSync(opened.descriptor);
      opened.descriptor = -1;
    }
    this.#open.clear();
  }

  /** The header must be there: the place stays a member. What is missing of the content reads as zeros. */
  #keepPlace(writer: GatheredWriter): void {
    try {
      writer.flush();
    } catch {
      this.#hasLostHeader = true;
    }
  }

  #gather(archive: number, position: number): GatheredWriter {
    return new GatheredWriter(this.#archive(archive), this.#state, this.#block, position);
  }

  #archive(index: number): OpenArchive {
    const known = this.#open.get(index);
    if (known !== undefined) return known;
    const path = archivePath(this.#spec, index);
    try {
      const opened = { index, path, descriptor: openSync(path, constants.O_WRONLY | constants.O_NOFOLLOW) };
      this.#open.set(index, opened);
      return opened;
    } catch (error) {
      throw fileError('open file', path, error);
    }
  }
}

/** Writes pieces that follow each other, in blocks, as directory-writer.ts does. */
class GatheredWriter {
  readonly #archive: OpenArchive;
  readonly #state: ArchiveState;
  readonly #block: Buffer;
  /** Where the held bytes belong. */
  #position: number;
  #held = 0;

  constructor(archive: OpenArchive, state: ArchiveState, block: Buffer, position: number) {
    this.#archive = archive;
    this.#state = state;
    this.#block = block;
    this.#position = position;
  }

  /** A header: in one write with what follows, where that follows at once. */
  putBefore(header: Buffer, place: number): void {
    if (place + header.length === this.#position) {
      this.#position = place;
      this.write(header);
    } else {
      this.#writeAt(header, place);
    }
  }

  write(chunk: Uint8Array): undefined {
    for (let taken = 0; taken < chunk.length;) {
      const room = BLOCK_BYTES - (this.#position % BLOCK_BYTES) - this.#held;
      const bytes = Math.min(room, chunk.length - taken);
      const part = chunk.subarray(taken, taken + bytes);
      taken += bytes;
      if (bytes === BLOCK_BYTES) {
        this.#position += this.#writeAt(part, this.#position);
        continue;
      }
      this.#block.set(part, this.#held);
      this.#held += bytes;
      if (bytes === room) this.flush();
    }
  }

  flush(): void {
    const held = this.#held;
    this.#held = 0;
    this.#position += this.#writeAt(this.#block.subarray(0, held), this.#position);
  }

  /** @returns how many bytes that were: all */
  #writeAt(bytes: Uint8Array, place: number): number {
    const { index, path, descriptor } = this.#archive;
    try {
      if (bytes.length < ALONE_BYTES) writeWhole(descriptor, bytes, place);
      else this.#state.writeAlone(index, () => writeWhole(descriptor, bytes, place));
      return bytes.length;
    } catch (error) {
      throw fileError('write file', path, error);
    }
  }
}
