/*
 * A worker's extract task: all members of one archive, in the order in which they come, go to the target. For archives
 * that can only be read from start to end: compressed ones, and a stream.
 */
import { chmodSync, mkdirSync } from 'node:fs';
import path from 'node:path';
import { assertNever } from '../assert-never.js';
import { ConvoyError, fileError, isSystemError } from '../errors.js';
import { readArchive, type ArchiveMember, type ArchiveReceiver } from '../target/archive-reader.js';
import { isLinked, resolveInDirectory } from '../target/directory-writer.js';
import type { BackupArchive } from '../target/finished-backup.js';
import type { DirectoryTargetSpec } from '../target/target.js';
import type { RestoredFile, RestoreSettings } from './messages.js';
import { notAFile } from './problems.js';
import { RestoredFileWriter } from './restored-file-writer.js';

/** A directory for files to come: it is always writable for its owner. */
const DIRECTORY_MODE = 0o700;

export interface ExtractedArchive {
  readonly files: readonly RestoredFile[];
  /** Relative to the data directory; without those that links lead to, which the target has made. */
  readonly directories: readonly string[];
}

/**
 * @param source the archive's bytes, where they do not come from its file
 * @throws ConvoyError the first thing that went wrong
 */
export async function extractArchive(
  archive: BackupArchive,
  settings: RestoreSettings,
  source?: AsyncIterable<Buffer>,
): Promise<ExtractedArchive> {
  if (settings.target.kind !== 'directory') throw new TypeError('archives are extracted to directories');
  const extraction = new Extraction(settings, settings.target);
  try {
    await readArchive(archive, extraction, source);
    return extraction;
  } catch (error) {
    extraction.abandon();
    throw error;
  }
}

class Extraction implements ArchiveReceiver, ExtractedArchive {
  readonly #target: DirectoryTargetSpec;
  readonly #writer: RestoredFileWriter;
  /** Relative to the data directory; the root is there already. */
  readonly #directories = new Set<string>(['.']);
  #inFile = false;

  constructor(settings: RestoreSettings, target: DirectoryTargetSpec) {
    this.#target = target;
    this.#writer = new RestoredFileWriter(settings);
  }

  get files(): readonly RestoredFile[] {
    return this.#writer.files;
  }

  get directories(): readonly string[] {
    return [...this.#directories].filter(
      (directory) => directory !== '.' && !isLinked(this.#target, directory),
    );
  }

  begin(member: ArchiveMember): void {
    switch (member.type) {
      case 'directory':
        this.#makeDirectory(member.path === '' ? '.' : member.path, member.mode);
        return;
      case 'file':
        this.#makeDirectory(path.dirname(member.path));
        this.#writer.begin(member);
        this.#inFile = true;
        return;
      case 'link':
        throw new ConvoyError('file_damaged', notAFile(member.path));
      default:
        assertNever(member.type);
    }
  }

  data(chunk: Buffer): undefined {
    this.#writer.write(chunk);
  }

  end(): void {
    if (this.#inFile) this.#writer.end();
    this.#inFile = false;
  }

  abandon(): void {
    this.#writer.abandon();
  }

  /** @param mode undefined for one that was not named yet */
  #makeDirectory(directory: string, mode?: number): void {
    if (this.#directories.has(directory) && mode === undefined) return;
    if (directory === '.') return;
    this.#makeDirectory(path.dirname(directory));
    const absolute = resolveInDirectory(this.#target, directory);
    try {
      if (!this.#directories.has(directory)) make(absolute);
      if (mode !== undefined) chmodSync(absolute, mode | DIRECTORY_MODE);
    } catch (error) {
      throw fileError('create directory', absolute, error);
    }
    this.#directories.add(directory);
  }
}

/** It may be there: made for a tablespace, or by another thread. */
function make(directory: string): void {
  try {
    mkdirSync(directory, { mode: DIRECTORY_MODE });
  } catch (error) {
    if (!isSystemError(error, 'EEXIST')) throw error;
  }
}
