/* What passes between `verify` and its threads: plain data, and never the bytes of a file. */
import type { PlainError } from '../errors.js';
import type { Lsn } from '../lsn.js';
import type { RecordedFile } from '../manifest/manifest.js';
import type { PageVerification } from '../pgdata/page-verifier.js';
import type { BackupArchive } from '../target/finished-backup.js';
import type { WalOutcome, WalTask } from '../wal-check/check-segments.js';

/** Where files lie: in a directory, or at offsets of an archive that is not compressed. */
export type CheckRoot =
  | { readonly kind: 'directory'; readonly directory: string }
  | { readonly kind: 'archive'; readonly name: string; readonly path: string };

export interface CheckedFile extends RecordedFile {
  /** Where its content begins in the archive, bytes; absent in a directory. */
  readonly offset?: number;
}

export interface CheckSettings {
  readonly checkFiles: boolean;
  /** Where the backup started, if pages are to be checked: those with a later LSN are passed over. */
  readonly pageStartLsn: Lsn | undefined;
  /** Memory of ProgressCounters. */
  readonly progress: SharedArrayBuffer;
}

export type CheckTask =
  | {
      readonly kind: 'files';
      readonly settings: CheckSettings;
      readonly root: CheckRoot;
      readonly files: readonly CheckedFile[];
    }
  | {
      readonly kind: 'range';
      readonly settings: CheckSettings;
      readonly root: CheckRoot;
      readonly file: CheckedFile;
      /** From where in the file, and how much of it, bytes; whole pages but at its end. */
      readonly from: number;
      readonly bytes: number;
    }
  | { readonly kind: 'wal'; readonly task: WalTask }
  | {
      readonly kind: 'archive';
      readonly settings: CheckSettings;
      readonly archive: BackupArchive;
      /** What the manifest says should be in it. */
      readonly files: readonly RecordedFile[];
      /** Relative paths that are not looked at. */
      readonly ignored: readonly string[];
      readonly wal: ArchivedWal | undefined;
    };

/** The WAL that an archive is to hold. */
export interface ArchivedWal {
  readonly ranges: readonly { readonly timeline: number; readonly startLsn: Lsn; readonly endLsn: Lsn }[];
  readonly systemIdentifier: bigint | undefined;
}

/** Of one range of a file. */
export interface RangeCheck {
  /** CRC-32C; 0 where the content was not asked for. */
  readonly crc: number;
  /** Fewer than were asked for where the file is too short. */
  readonly readBytes: number;
  readonly pages: PageVerification | undefined;
}

export type CheckOutcome =
  | { readonly kind: 'files'; readonly problems: readonly string[] }
  | { readonly kind: 'range'; readonly check: RangeCheck }
  | { readonly kind: 'wal'; readonly outcome: WalOutcome }
  | {
      readonly kind: 'archive';
      readonly problems: readonly string[];
      /** Bad pages, which count only where the cluster has page checksums. */
      readonly pageProblems: readonly string[];
      /** Content of pg_control, if it was in the archive. */
      readonly controlFile: Uint8Array | undefined;
      /** What is wrong with the WAL, a row a range; undefined where the archive has none. */
      readonly walProblems: readonly (readonly string[])[] | undefined;
    }
  /** A file could not be opened or read. */
  | { readonly kind: 'unreadable'; readonly problem: string }
  | { readonly kind: 'failed'; readonly error: PlainError };
