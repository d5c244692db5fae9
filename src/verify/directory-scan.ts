/*
 * Compares the files of a plain backup with its manifest by name; sizes and content are compared where the files are
 * read. Called by plain-backup.ts. Links are followed: tablespaces are linked to.
 * Source: verify_plain_backup_directory and verify_plain_backup_file in PostgreSQL 18's pg_verifybackup.c.
 */
import { readdirSync, statSync, type Dirent } from 'node:fs';
import { fileError } from '../errors.js';
import { decodeFileName, encodeFileName } from '../file-name-bytes.js';
import type { BackupManifest, RecordedFile } from '../manifest/manifest.js';
import type { IgnoredPaths } from './ignored-paths.js';
import type { Problems } from './problems.js';

/**
 * Reports what is on disk and not in the manifest, and the other way round.
 *
 * @param directory absolute path of the data directory
 * @param ignored also gets what cannot be read
 * @returns the files that are in both
 * @throws ConvoyError `target_io` where the directory itself cannot be read
 */
export function scanDirectory(
  directory: string,
  manifest: BackupManifest,
  ignored: IgnoredPaths,
  problems: Problems,
): RecordedFile[] {
  const scan = new DirectoryScan(directory, manifest, ignored, problems);
  return scan.run();
}

class DirectoryScan {
  readonly #root: string;
  readonly #manifest: BackupManifest;
  readonly #ignored: IgnoredPaths;
  readonly #problems: Problems;
  readonly #found = new Set<RecordedFile>();
  /** Directories still to be read, relative, with a slash at the end. */
  readonly #waiting: string[] = [];

  constructor(root: string, manifest: BackupManifest, ignored: IgnoredPaths, problems: Problems) {
    this.#root = root;
    this.#manifest = manifest;
    this.#ignored = ignored;
    this.#problems = problems;
  }

  run(): RecordedFile[] {
    this.#readDirectory('');
    for (let next = this.#waiting.pop(); next !== undefined; next = this.#waiting.pop()) {
      this.#readDirectory(next);
    }
    for (const { path } of this.#manifest.files.values()) this.#reportMissing(path);
    return [...this.#found];
  }

  #readDirectory(prefix: string): void {
    const directory = `${this.#root}/${prefix}`.replace(/\/$/, '');
    let entries: Dirent<Buffer>[];
    try {
      entries = readdirSync(encodeFileName(directory), { withFileTypes: true, encoding: 'buffer' });
    } catch (error) {
      const failure = fileError('open directory', directory, error);
      if (prefix === '') throw failure;
      this.#ignored.add(prefix.slice(0, -1));
      this.#problems.report(failure.message);
      return;
    }
    for (const entry of entries) {
      const path = prefix + decodeFileName(entry.name);
      if (this.#ignored.has(path)) continue;
      const kind = this.#kindOf(entry, path);
      if (kind === 'directory') this.#waiting.push(`${path}/`);
      else if (kind === 'file') this.#file(path);
    }
  }

  /** Of what the entry leads to; undefined where that is nothing to look at, which has been reported. */
  #kindOf(entry: Dirent<Buffer>, path: string): 'file' | 'directory' | undefined {
    try {
      // only links, and file systems that do not tell, need to be asked
      const stats =
        entry.isFile() || entry.isDirectory() ? entry : statSync(encodeFileName(`${this.#root}/${path}`));
      if (stats.isFile()) return 'file';
      if (stats.isDirectory()) return 'directory';
    } catch (error) {
      this.#ignored.add(path);
      this.#problems.report(fileError('stat file or directory', path, error).message);
      return undefined;
    }
    this.#problems.report(`"${path}" is not a regular file or directory`);
    return undefined;
  }

  #file(path: string): void {
    const recorded = this.#manifest.files.get(path);
    if (recorded === undefined) {
      this.#problems.report(`"${path}" is present on disk but not in the manifest`);
    } else {
      this.#found.add(recorded);
    }
  }

  #reportMissing(path: string): void {
    const recorded = this.#manifest.files.get(path);
    if (recorded === undefined || this.#found.has(recorded) || this.#ignored.has(path)) return;
    this.#problems.report(`"${path}" is present in the manifest but not on disk`);
  }
}
