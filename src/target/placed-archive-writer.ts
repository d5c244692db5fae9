/*
 * Fills uncompressed archives from several threads at once: each file gets a place of its own when its first bytes arrive,
 * and is written there, ranges of one file by several threads. A task that is done again finds its files' places.
 */
import { encodeTarHeader, TAR_END, tarPadding, type TarMember } from '../tar/tar-encoding.js';
import { ArchiveFile } from './archive-file.js';
import { archiveCount, archivePath, memberPlace } from './archive-layout.js';
import { ArchiveState } from './archive-state.js';
import type { ArchiveWriter } from './archive-writer.js';
import { BlockWrites } from './block-writes.js';
import { GatheredWriter } from './gathered-writer.js';
import type { ArchiveTargetSpec, FileWriter, TargetFile } from './target.js';

export class PlacedArchiveWriter implements ArchiveWriter {
  readonly #spec: ArchiveTargetSpec;
  readonly #state: ArchiveState;
  readonly #open = new Map<number, ArchiveFile>();
  readonly #writes = new BlockWrites();
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

  /** Files are where they belong, once nothing is under way any more. */
  async commit(): Promise<[]> {
    await this.#writes.settle();
    return [];
  }

  /** Files of a task that is done again are written anew, where they are. */
  async rollback(): Promise<boolean> {
    try {
      await this.#writes.settle();
      return !this.#hasLostHeader;
    } catch {
      return false;
    }
  }

  append(archive: number, bytes: Buffer): undefined {
    const writer = this.#gather(archive, this.#state.reserve(archive, bytes.length));
    void writer.write(bytes);
    writer.flush();
  }

  begin(): Promise<void> {
    return Promise.resolve();
  }

  async end(): Promise<void> {
    for (let archive = 0; archive < archiveCount(this.#spec); archive += 1) this.append(archive, TAR_END);
    await this.#writes.settle();
  }

  close(): void {
    for (const archive of this.#open.values()) archive.close();
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
    return new GatheredWriter(this.#archive(archive), this.#writes, position);
  }

  #archive(archive: number): ArchiveFile {
    const known = this.#open.get(archive);
    if (known !== undefined) return known;
    const opened = new ArchiveFile(archivePath(this.#spec, archive), this.#state, archive);
    this.#open.set(archive, opened);
    return opened;
  }
}
