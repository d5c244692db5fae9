/*
 * The hot path: one file at a time from a source to the target. Every chunk is written, checksummed and counted
 * once, while it is in the cache, before the next one is read over it. Used by the workers for the cluster's files and
 * by the coordinator for those that come when the backup stops.
 */
import { setMaxListeners } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { createFileChecksum, type ChecksumAlgorithm, type FileChecksum } from '../checksum.js';
import type { ManifestFile } from '../manifest/manifest.js';
import type { RateLimit } from '../target/rate-limit.js';
import type { FileWriter, Target, TargetFile } from '../target/target.js';
import type { ProgressCounters } from '../progress-counters.js';

export interface CopyTools {
  readonly target: Target;
  readonly algorithm: ChecksumAlgorithm;
  readonly rate: RateLimit | undefined;
  readonly progress: ProgressCounters;
}

export class PacedFileCopy {
  readonly #tools: CopyTools;
  readonly #abandoned = new AbortController();
  #file: TargetFile | undefined;
  #writer: FileWriter | undefined;
  #checksum: FileChecksum | undefined;
  #countedBytes = 0;
  #countedFiles = 0;

  constructor(tools: CopyTools) {
    this.#tools = tools;
    // pieces that came in one read pause side by side
    setMaxListeners(0, this.#abandoned.signal);
  }

  begin(file: TargetFile): void {
    this.#file = file;
    this.#writer = this.#tools.target.createFile(file);
    this.#checksum = createFileChecksum(this.#tools.algorithm);
  }

  /** @returns a promise where the rate limit asks for a pause */
  data(chunk: Buffer): Promise<void> | undefined {
    this.#writer?.write(chunk);
    this.#checksum?.update(chunk);
    this.#tools.progress.add(chunk.length, 0);
    this.#countedBytes += chunk.length;
    const waitMs = this.#tools.rate?.take(chunk.length) ?? 0;
    return waitMs === 0 ? undefined : this.#pause(waitMs);
  }

  end(): ManifestFile {
    const { path, size, mtime } = this.#file ?? { path: '', size: 0, mtime: 0 };
    this.#writer?.finish();
    this.#writer = undefined;
    // of a file in parts, the first counts
    const files = (this.#file?.offset ?? 0) === 0 ? 1 : 0;
    this.#tools.progress.add(0, files);
    this.#countedFiles += files;
    return { path, size, mtime, checksum: this.#checksum?.digest() ?? '' };
  }

  /** Gives up the file in hand, ends its pauses, and takes back what was counted. Nothing follows. */
  abandon(): void {
    this.#abandoned.abort();
    this.#writer?.abandon();
    this.#writer = undefined;
    this.#tools.progress.add(-this.#countedBytes, -this.#countedFiles);
  }

  /** A low rate asks for many seconds; they must not keep a process that is to end. */
  async #pause(waitMs: number): Promise<void> {
    await delay(waitMs, undefined, { signal: this.#abandoned.signal }).catch(() => {});
  }
}
