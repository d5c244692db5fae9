/*
 * What passes between a restore and its worker threads: plain data, small, without a byte of a file.
 * workers/restore.ts unpacks it.
 */
import type { ChecksumAlgorithm } from '../checksum.js';
import type { PlainError } from '../errors.js';
import type { BackupArchive } from '../target/finished-backup.js';
import type { BlackholeTargetSpec, DirectoryTargetSpec } from '../target/target.js';
import type { WalOutcome, WalTask } from '../wal-check/check-segments.js';

/** The same for all tasks of a restore; comes with each of them. */
export interface RestoreSettings {
  readonly target: DirectoryTargetSpec | BlackholeTargetSpec;
  readonly algorithm: ChecksumAlgorithm;
  /** Bytes and files done so far, by all threads: src/progress-counters.ts. */
  readonly progress: SharedArrayBuffer;
  /** An Int32 that is not zero once everything is to end. */
  readonly cancelled: SharedArrayBuffer;
}

/** A file of the backup, or a part of one, that lies somewhere on this machine. */
export interface FileToRestore {
  /** Relative to the data directory; in a tablespace below pg_tblspc/<oid>/. */
  readonly path: string;
  /** Bytes of the whole. */
  readonly size: number;
  /** Permission bits. */
  readonly mode: number;
  /** Seconds since the epoch. */
  readonly mtime: number;
  /** The file that holds its bytes, an archive for instance, and where they begin there. */
  readonly origin: { readonly file: string; readonly offset: number };
  /** The part that is meant, where several threads share the file; undefined: all of it. */
  readonly range?: { readonly offset: number; readonly length: number };
}

/** A file, or a part of it, that was written. */
export interface RestoredFile {
  readonly path: string;
  /** Bytes. */
  readonly size: number;
  /** As in the manifest. */
  readonly checksum: string;
  readonly algorithm: ChecksumAlgorithm;
  /** Where the part begins and how long the whole is; undefined: it is the whole. */
  readonly part?: { readonly offset: number; readonly wholeBytes: number };
}

export type RestoreTask =
  | { readonly kind: 'copy'; readonly settings: RestoreSettings; readonly files: readonly FileToRestore[] }
  | { readonly kind: 'extract'; readonly settings: RestoreSettings; readonly archive: BackupArchive }
  | { readonly kind: 'sync'; readonly paths: readonly string[] }
  | { readonly kind: 'wal'; readonly task: WalTask };

/** Errors are data here: an Error loses its fields between threads. */
export type RestoreOutcome =
  | {
      readonly kind: 'restored';
      readonly files: readonly RestoredFile[];
      /** Directories that an archive named, relative to the data directory. */
      readonly directories: readonly string[];
    }
  | { readonly kind: 'wal'; readonly outcome: WalOutcome }
  | { readonly kind: 'failed'; readonly error: PlainError };
