/* What a restore is asked to do, resolved; the command line makes it, tests and programs may. No defaults inside. */
import type { Readable } from 'node:stream';
import type { ProgressCount } from '../progress-counters.js';
import type { TablespaceMapping } from '../target/tablespace-mapping.js';
import type { Recovery } from './recovery.js';

/** Where the backup lies. */
export type BackupLocation =
  /** A directory, or one tar file that holds everything. Absolute. */
  | { readonly kind: 'path'; readonly path: string }
  /** One tar that holds everything, as it comes, compressed or not. */
  | { readonly kind: 'stream'; readonly bytes: Readable };

export interface RestoreOptions {
  readonly backup: BackupLocation;
  /** Absolute. */
  readonly directory: string;
  readonly tablespaceMappings: readonly TablespaceMapping[];
  /** Absolute; undefined: the WAL stays in the data directory. */
  readonly walDirectory: string | undefined;
  /** `checksums`: everything; `sizes`: all but checksums; `nothing`: the backup needs no manifest. */
  readonly verify: 'checksums' | 'sizes' | 'nothing';
  /** Undefined: the server replays what the backup needs, no more. */
  readonly recovery: Recovery | undefined;
  /** Worker threads. */
  readonly jobs: number;
  readonly sync: boolean;
  /** Leave what was made when the restore fails. */
  readonly keepOnFailure: boolean;
}

/** Takes what happens, as it happens. */
export interface RestoreEvents {
  /** Always shown, one line. */
  notice(message: string): void;
  /** For -v, one line. */
  detail(message: string): void;
  warning(message: string): void;
  /** Something is wrong with the backup; the restore fails when all problems are known. */
  problem(message: string): void;
  /** Files are being written from now on; `read` tells how far it is. */
  copyStarted(totals: ProgressCount, read: () => ProgressCount): void;
  copyEnded(): void;
}

export interface RestoreReport {
  /** Files and bytes written. */
  readonly restored: ProgressCount;
  /** The data directory, tablespaces and WAL, where they lie elsewhere; absolute. */
  readonly directories: readonly string[];
}
