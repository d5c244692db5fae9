/*
 * The coordinator's side of a backup as tar archives: makes them with the members that are directories, ends them, syncs or
 * removes them, and says what they hold of a file that vanished while it was read.
 */
import { closeSync, constants, fchmodSync, openSync, readSync } from 'node:fs';
import { createFileChecksum, type ChecksumAlgorithm } from '../checksum.js';
import { fileError } from '../errors.js';
import { encodeTarHeader } from '../tar/tar-encoding.js';
import { TargetWithAddedText } from './added-text.js';
import { archiveCount, archivePath, memberPlace } from './archive-layout.js';
import { ArchiveState } from './archive-state.js';
import { isStreamed, openArchiveWriter, type ArchiveWriter } from './archive-writer.js';
import { DirectoryTarget, type DirectoryToMake, type OwnDirectory } from './directory-target.js';
import type { ArchiveStretch, ArchiveTargetSpec, Target } from './target.js';

const HEADERS_AT_ONCE = 1000;
const READ_BYTES = 1024 * 1024;

export interface ArchiveModes {
  /** Permission bits of the directory, where it is made here. */
  readonly directory: number;
  /** Of the archives. */
  readonly file: number;
}

/** What an archive holds of a file. */
export interface HeldFile {
  /** Bytes. */
  readonly size: number;
  readonly checksum: string;
}

export class ArchiveTarget {
  readonly #spec: ArchiveTargetSpec;
  readonly #root: DirectoryTarget | undefined;
  readonly #writer: ArchiveWriter;
  readonly #stretches: ArchiveStretch[] = [];

  constructor(spec: ArchiveTargetSpec) {
    this.#spec = spec;
    const { directory } = spec;
    this.#root =
      directory === undefined
        ? undefined
        : new DirectoryTarget({ kind: 'directory', directory, tablespaces: [] });
    this.#writer = openArchiveWriter(spec);
  }

  /** Where the coordinator writes the files that are its own. */
  get files(): Target {
    return new TargetWithAddedText(this.#writer, this.#spec.addedText ?? []);
  }

  /** Absolute. */
  get archives(): readonly string[] {
    if (this.#spec.directory === undefined) return [];
    return Array.from({ length: archiveCount(this.#spec) }, (_, archive) => archivePath(this.#spec, archive));
  }

  /** The directory of the archives, as far as it is in use: what `remove` would empty. */
  get directories(): readonly OwnDirectory[] {
    return this.#root?.directories ?? [];
  }

  /**
   * Makes the archives, with the directories that are listed.
   *
   * @throws ConvoyError `target_refused` where something is in the way, `target_io`
   */
  async prepare(modes: ArchiveModes, directories: readonly DirectoryToMake[]): Promise<void> {
    this.#root?.prepare(modes.directory, []);
    for (const path of this.archives) createFile(path, modes.file);
    await this.#writer.begin();
    await this.#addDirectories(directories);
  }

  /**
   * What the archive holds of a file that vanished after a part of it had been written: that, and zeros.
   *
   * @returns undefined where it holds nothing of it
   * @throws ConvoyError `target_io`
   */
  heldFile(path: string, slot: number, algorithm: ChecksumAlgorithm): HeldFile | undefined {
    const state = new ArchiveState(this.#spec.state, archiveCount(this.#spec));
    const claim = isStreamed(this.#spec) ? undefined : state.find(slot);
    if (claim === undefined) return undefined;
    const { archive, name } = memberPlace(this.#spec, path);
    const { size, place } = claim;
    const header = encodeTarHeader({ name, type: 'file', size, mode: 0, mtime: 0 });
    const checksum = createFileChecksum(algorithm);
    for (const piece of readPieces(archivePath(this.#spec, archive), place + header.length, size)) {
      checksum.update(piece);
    }
    return { size, checksum: checksum.digest() };
  }

  /** The archives are complete. @throws ConvoyError `target_io` */
  async end(): Promise<void> {
    this.note(await this.#writer.commit());
    await this.#writer.end(this.#stretches);
  }

  /** What a task has put into archives. */
  note(stretches: readonly ArchiveStretch[]): void {
    this.#stretches.push(...stretches);
  }

  /** Makes the archives' names durable. @throws ConvoyError `target_io` */
  syncDirectories(): void {
    this.#root?.syncDirectories();
  }

  /** Removes all that was made, and only that. @throws ConvoyError `target_io` */
  async remove(): Promise<void> {
    await this.#root?.remove();
  }

  close(): void {
    this.#writer.close();
  }

  async #addDirectories(directories: readonly DirectoryToMake[]): Promise<void> {
    const mtime = Math.floor(Date.now() / 1000);
    const pending = new Map<number, Buffer[]>();
    const flush = async (archive: number): Promise<void> => {
      const headers = pending.get(archive) ?? [];
      pending.delete(archive);
      await this.#writer.append(archive, Buffer.concat(headers));
    };
    for (const { target, mode, owner } of directories) {
      const { archive, name } = memberPlace(this.#spec, target);
      const headers = pending.get(archive) ?? [];
      headers.push(encodeTarHeader({ name, type: 'directory', size: 0, mode, mtime, owner }));
      pending.set(archive, headers);
      // oxlint-disable-next-line eslint/no-await-in-loop
      if (headers.length === HEADERS_AT_ONCE) await flush(archive);
    }
    // oxlint-disable-next-line eslint/no-await-in-loop
    for (const archive of pending.keys()) await flush(archive);
    this.note(await this.#writer.commit());
  }
}

function createFile(path: string, mode: number): void {
  try {
    const descriptor = openSync(path, 'wx', mode);
    try {
      // the umask is for the owner alone; where the group may read the cluster, it may read this
      fchmodSync(descriptor, mode);
    } finally {
      closeSync(descriptor);
    }
  } catch (error) {
    throw fileError('create file', path, error);
  }
}

/** The bytes from `place` on, in pieces that the next one overwrites. */
function* readPieces(path: string, place: number, size: number): Generator<Buffer> {
  const block = Buffer.allocUnsafe(Math.min(size, READ_BYTES));
  try {
    const descriptor = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW);
    try {
      for (let done = 0; done < size;) {
        const count = readSync(descriptor, block, 0, Math.min(block.length, size - done), place + done);
        // nothing has been written so far out yet: it will read as zeros
        const piece = count === 0 ? block.fill(0, 0, Math.min(block.length, size - done)) : block;
        const bytes = count === 0 ? Math.min(block.length, size - done) : count;
        yield piece.subarray(0, bytes);
        done += bytes;
      }
    } finally {
      closeSync(descriptor);
    }
  } catch (error) {
    throw fileError('read file', path, error);
  }
}
