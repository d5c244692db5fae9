/* What a backup is asked to do, resolved; the command line makes it, tests and programs may. No defaults inside. */
import type { ChecksumAlgorithm } from '../checksum.js';
import type { ProgressCount } from '../progress-counters.js';
import type { Compression } from '../target/compression/compression.js';
import type { TablespaceMapping } from '../target/tablespace-mapping.js';
import type { ConnectionSettings } from '../source/connection-settings.js';
import type { SourceChoice } from '../source/source-choice.js';
import type { SlotChoice } from '../wal/replication-slot.js';

/** Where the backup goes. */
export type TargetOptions =
  | {
      readonly kind: 'directory';
      /** Absolute. */
      readonly directory: string;
      readonly tablespaceMappings: readonly TablespaceMapping[];
      /** Where pg_wal leads to, absolute; undefined: it is a directory like any other. */
      readonly walDirectory: string | undefined;
    }
  /** Tar archives: one for the data directory, one for each tablespace. */
  | {
      readonly kind: 'archive';
      /** Absolute; undefined: one archive goes to standard output, with the manifest inside. */
      readonly directory: string | undefined;
      readonly compression: Compression;
    }
  /** Everything is read and checked, nothing is written. */
  | { readonly kind: 'blackhole' };

/** --sync-method: file by file, or whole file systems. */
export type SyncMethod = 'fsync' | 'syncfs';

/** -X stream: WAL comes over a connection of its own, while files are copied. */
export interface WalStreaming {
  readonly slot: SlotChoice;
  /** From one status update to the next; 0: none but those that the server asks for. */
  readonly statusIntervalMs: number;
}

/** -R: what a standby needs to find its server again. */
export interface RecoveryConf {
  /** The connection string for a standby of this version; asked once the connection is open. */
  readonly primaryConninfo: (serverMajor: number) => string;
}

export interface BackupOptions {
  readonly connection: ConnectionSettings;
  readonly source: SourceChoice;
  /** Asked when the server wants a password that the settings do not have. */
  readonly askPassword: (() => Promise<string>) | undefined;
  readonly target: TargetOptions;
  /** Worker threads, each with a connection. */
  readonly jobs: number;
  /** How often one task may be repeated on a new connection while the coordinator's own lives. */
  readonly maxRetries: number;
  readonly label: string;
  readonly fastCheckpoint: boolean;
  readonly wal: 'fetch' | 'none' | WalStreaming;
  /** Undefined: no manifest. */
  readonly manifestChecksums: ChecksumAlgorithm | undefined;
  /** All paths in hexadecimal. */
  readonly encodeManifestPaths: boolean;
  readonly verifyPageChecksums: boolean;
  /** Undefined: no limit. */
  readonly maxRateBytesPerSecond: number | undefined;
  /** Makes the copy a standby of the server that it comes from. Undefined: nothing is written for that. */
  readonly recoveryConf: RecoveryConf | undefined;
  readonly sync: boolean;
  readonly syncMethod: SyncMethod;
  /** Leave what was made when the backup fails. */
  readonly keepOnFailure: boolean;
}

/**
 * What a backup does, in this order: opens the source, starts the backup (the checkpoint is in that), lists the files and
 * makes the target's directories, copies, stops the backup (WAL is in that), makes all durable.
 */
export type BackupPhase = 'open' | 'start' | 'list' | 'copy' | 'stop' | 'sync';

/** Takes what happens, as it happens. */
export interface BackupEvents {
  /** Always shown, one line. */
  notice(message: string): void;
  /** For -v, one line. */
  detail(message: string): void;
  warning(message: string): void;
  phaseStarted(phase: BackupPhase): void;
  /** Files are being copied from now on; `read` tells how far it is. */
  copyStarted(totals: ProgressCount, read: () => ProgressCount): void;
  copyEnded(): void;
}
