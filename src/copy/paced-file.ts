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

const ZEROS = Buffer.alloc(64 * 1024);

export class PacedFileCopy {
  readonly #tools: CopyTools;
  readonly #abandoned = new AbortController();
  #file: TargetFile | undefined;
  #writer: FileWriter | undefined;
  #checksum: FileChecksum | undefined;
  /** Bytes of the file in hand that the target expects, still to come. */
  #missing = 0;
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
    this.#missing = this.#writer.size;
    this.#checksum = createFileChecksum(this.#tools.algorithm);
  }

  /** @returns a promise where the rate limit or the target asks for a pause */
  data(chunk: Buffer): Promise<void> | undefined {
    const room = this.#write(this.#missing < chunk.length ? chunk.subarray(0, this.#missing) : chunk);
    this.#tools.progress.add(chunk.length, 0);
    this.#countedBytes += chunk.length;
    const waitMs = this.#tools.rate?.take(chunk.length) ?? 0;
    if (waitMs === 0) return room;
    return this.#pause(waitMs, room);
  }

  end(): ManifestFile {
    const { path, mtime } = this.#file ?? { path: '', mtime: 0 };
    // shorter than in an earlier try, which fixed its size: what is missing is zeros, as in PostgreSQL's sendFile
    while (this.#missing > 0) void this.#write(ZEROS.subarray(0, Math.min(this.#missing, ZEROS.length)));
    const size = this.#writer?.size ?? 0;
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

  #write(bytes: Buffer): Promise<void> | undefined {
    this.#missing -= bytes.length;
    this.#checksum?.update(bytes);
    return this.#writer?.write(bytes);
  }

  /** A low rate asks for many seconds; they must not keep a process that is to end. */
  async #pause(waitMs: number, room?: Promise<void>): Promise<void> {
    await room;
    await delay(waitMs, undefined, { signal: this.#abandoned.signal }).catch(() => {});
  }
}
