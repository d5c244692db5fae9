/* What `verify` is asked to do and what it tells on the way: the engine's interface, resolved by the command line. */
import type { ProgressCount } from '../progress-counters.js';

export interface VerifyOptions {
  /** Absolute path of the backup: a directory, or one tar file with everything in it. */
  readonly backup: string;
  /** Guessed where undefined: plain where there is a PG_VERSION or no archive. */
  readonly format: 'plain' | 'tar' | undefined;
  /** Absolute path; backup_manifest of the backup where undefined. */
  readonly manifest: string | undefined;
  /** Paths relative to the data directory that are not looked at, with everything below them. */
  readonly ignore: readonly string[];
  readonly checkWal: boolean;
  /** Absolute path of the directory that holds the WAL; that of the backup where undefined. */
  readonly walDirectory: string | undefined;
  /** Read files and compare their checksums; their sizes are compared in any case. */
  readonly checkFiles: boolean;
  /** Also check the pages of relations, where the cluster has page checksums. */
  readonly checkPages: boolean;
  /** Threads. */
  readonly jobs: number;
  /** End at the first problem. */
  readonly stopAtFirst: boolean;
}

export interface VerifyEvents {
  /** Something is wrong with the backup; one line. */
  problem(message: string): void;
  /** Nothing wrong, but something is not checked. */
  warning(message: string): void;
  /** Files are about to be read; `read` says at any time how much is done. */
  readingStarted(totals: ProgressCount, read: () => ProgressCount): void;
  readingEnded(): void;
}

export interface VerifyReport {
  /** How many times events.problem() was called; none: the backup is good. */
  readonly problems: number;
}
