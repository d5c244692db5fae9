/*
 * Writes backup_manifest piece by piece, so that a cluster of millions of files never has its manifest in memory.
 * It is written under a temporary name and renamed at the end: a manifest says that the backup is complete.
 * Source: PostgreSQL's src/backend/backup/backup_manifest.c (the layout, byte for byte).
 */
import { createHash } from 'node:crypto';
import { closeSync, fchmodSync, fsyncSync, openSync, renameSync, writeSync } from 'node:fs';
import type { ChecksumAlgorithm } from '../checksum.js';
import { fileError } from '../errors.js';
import { formatLsn } from '../lsn.js';
import { MANIFEST_PATH, type ManifestFile, type ManifestVersion, type WalRange } from './manifest.js';

const FLUSH_CHARACTERS = 256 * 1024;

export interface ManifestOptions {
  /** The data directory of the backup. */
  readonly directory: string;
  readonly version: ManifestVersion;
  readonly systemIdentifier: bigint;
  readonly algorithm: ChecksumAlgorithm;
  /** All paths in hexadecimal; PostgreSQL does that by itself with those that are not UTF-8, which no source lists. */
  readonly encodePaths: boolean;
  /** Permission bits of the file. */
  readonly mode: number;
}

/** Calls in the order addFile*, finish; disposed of at any time instead. */
export class ManifestWriter implements Disposable {
  readonly #options: ManifestOptions;
  readonly #path: string;
  readonly #hash = createHash('sha256');
  #descriptor: number | undefined;
  #pending = '';
  #files = 0;

  /** @throws ConvoyError `target_io` */
  constructor(options: ManifestOptions) {
    this.#options = options;
    this.#path = `${options.directory}/${MANIFEST_PATH}`;
    this.#attempt('create file', () => {
      this.#descriptor = openSync(this.#temporaryPath, 'wx', options.mode);
      // the umask is for the owner alone; where the group may read the cluster, it may read this
      fchmodSync(this.#descriptor, options.mode);
    });
    this.#append(`{ "PostgreSQL-Backup-Manifest-Version": ${options.version},\n`);
    if (options.version >= 2) this.#append(`"System-Identifier": ${options.systemIdentifier},\n`);
    this.#append('"Files": [');
  }

  addFile(file: ManifestFile): void {
    const { algorithm, encodePaths } = this.#options;
    const path = encodePaths
      ? `"Encoded-Path": "${Buffer.from(file.path).toString('hex')}"`
      : `"Path": ${JSON.stringify(file.path)}`;
    const checksum =
      algorithm === 'NONE' ? '' : `, "Checksum-Algorithm": "${algorithm}", "Checksum": "${file.checksum}"`;
    const separator = this.#files === 0 ? '\n' : ',\n';
    this.#files += 1;
    this.#append(
      `${separator}{ ${path}, "Size": ${file.size}, ` +
        `"Last-Modified": "${formatTime(file.mtime)}"${checksum} }`,
    );
  }

  /** Ends the manifest and gives it its name. @param sync also makes it durable */
  finish(ranges: readonly WalRange[], sync: boolean): void {
    const lines = ranges.map(
      ({ timeline, startLsn, endLsn }) =>
        `{ "Timeline": ${timeline}, "Start-LSN": "${formatLsn(startLsn)}", "End-LSN": "${formatLsn(endLsn)}" }`,
    );
    this.#append(`\n],\n"WAL-Ranges": [\n${lines.join(',\n')}\n],\n`);
    this.#flush();
    // the checksum covers everything up to the line that holds it
    this.#pending = `"Manifest-Checksum": "${this.#hash.digest('hex')}"}\n`;
    this.#write();
    this.#attempt('write file', () => {
      if (sync && this.#descriptor !== undefined) fsyncSync(this.#descriptor);
      this.#close();
      renameSync(this.#temporaryPath, this.#path);
    });
  }

  [Symbol.dispose](): void {
    this.#close();
  }

  get #temporaryPath(): string {
    return `${this.#path}.tmp`;
  }

  #append(text: string): void {
    this.#pending += text;
    if (this.#pending.length >= FLUSH_CHARACTERS) this.#flush();
  }

  #flush(): void {
    this.#hash.update(this.#pending);
    this.#write();
  }

  #write(): void {
    const bytes = Buffer.from(this.#pending);
    this.#pending = '';
    this.#attempt('write file', () => {
      for (let written = 0; written < bytes.length && this.#descriptor !== undefined;) {
        written += writeSync(this.#descriptor, bytes, written);
      }
    });
  }

  #close(): void {
    if (this.#descriptor === undefined) return;
    closeSync(this.#descriptor);
    this.#descriptor = undefined;
  }

  #attempt(action: string, step: () => void): void {
    try {
      step();
    } catch (error) {
      throw fileError(action, this.#temporaryPath, error);
    }
  }
}

/** Text of the times seen last: the files of a cluster share them. */
const times = new Map<number, string>();
const MAX_KNOWN_TIMES = 1000;

/** strftime "%Y-%m-%d %H:%M:%S GMT". */
function formatTime(secondsSinceEpoch: number): string {
  const known = times.get(secondsSinceEpoch);
  if (known !== undefined) return known;
  if (times.size >= MAX_KNOWN_TIMES) times.clear();
  const text = `${new Date(secondsSinceEpoch * 1000).toISOString().slice(0, 19).replace('T', ' ')} GMT`;
  times.set(secondsSinceEpoch, text);
  return text;
}
