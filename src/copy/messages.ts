/*
 * What passes between the coordinator and its worker threads: plain data, small, without a byte of a file.
 * In columns while it does: packed-messages.ts.
 */
import type { ChecksumAlgorithm } from '../checksum.js';
import type { PlainError } from '../errors.js';
import type { Lsn } from '../lsn.js';
import type { ManifestFile } from '../manifest/manifest.js';
import type { SourceSpec } from '../source/open-reader.js';
import type { FileToRead } from '../source/source.js';
import type { ArchiveStretch, TargetSpec } from '../target/target.js';
import type { ThreadStart } from '../thread-start.js';

/** What a thread is given when it starts: before the backup has started, so that starting costs no time. */
export interface WorkerStart extends ThreadStart {
  /** BroadcastChannel on which the coordinator says that everything is to end. */
  readonly cancelChannel: string;
}

/** The same for all tasks of a backup; comes with each of them, a thread takes the first. */
export interface CopySettings {
  readonly source: SourceSpec;
  readonly target: TargetSpec;
  readonly startLsn: Lsn;
  readonly algorithm: ChecksumAlgorithm;
  readonly verifyPageChecksums: boolean;
  /** Undefined: no limit. */
  readonly rate: { readonly budget: SharedArrayBuffer; readonly bytesPerSecond: number } | undefined;
  /** Bytes and files done so far, by all threads: src/progress-counters.ts. */
  readonly progress: SharedArrayBuffer;
}

/** As a file, but size and checksum are those of the part. */
export interface CopiedPart extends ManifestFile {
  readonly offset: number;
}

/** How a task ended. Errors are data here: an Error loses its fields between threads. */
export type CopyOutcome =
  | {
      readonly kind: 'copied';
      readonly files: readonly ManifestFile[];
      /** Parts of files that several tasks share; range-assembly.ts puts them together. */
      readonly parts: readonly CopiedPart[];
      /** Targets of files that were gone when they were to be read; WAL replay knows them gone, too. */
      readonly vanished: readonly string[];
      /** Where the task lies in archives that have a checksum over all of their bytes. */
      readonly stretches: readonly ArchiveStretch[];
      readonly hasBadPages: boolean;
      /** As ReadResult. */
      readonly badPageCount?: number;
      readonly warnings: readonly string[];
    }
  /** The connection broke: the same task may succeed on a new one. */
  | { readonly kind: 'connection_lost'; readonly error: PlainError }
  | { readonly kind: 'failed'; readonly error: PlainError };

/** Which thread had a task, and for how long. */
export interface TaskWork {
  /** The thread's number; threads that replace others have new ones. */
  readonly worker: number;
  readonly seconds: number;
}

/** What a thread sends back. */
export interface WorkerAnswer {
  readonly outcome: CopyOutcome;
  readonly work: TaskWork;
}

/** What a worker can be asked for. */
export type WorkerTask =
  /** To connect, so that the first copy finds a connection; where that fails, it tries again. */
  | { readonly kind: 'connect'; readonly source: SourceSpec }
  | { readonly kind: 'copy'; readonly settings: CopySettings; readonly task: CopyTaskMessage }
  | { readonly kind: 'sync'; readonly paths: readonly string[] };

export interface CopyTaskMessage {
  readonly files: readonly FileToRead[];
  /** As in CopyTask. */
  readonly slot: number;
  readonly turn?: number | undefined;
}
