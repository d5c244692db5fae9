/*
 * The backup manifest's model. Format and meaning: PostgreSQL's documentation, "Backup Manifest Format", and
 * src/backend/backup/backup_manifest.c.
 */
import type { ChecksumAlgorithm } from '../checksum.js';
import type { Lsn } from '../lsn.js';

export const MANIFEST_PATH = 'backup_manifest';

/** Version 2 brought the system identifier (PostgreSQL 17). */
export type ManifestVersion = 1 | 2;

export function manifestVersionOf(serverMajor: number): ManifestVersion {
  return serverMajor >= 17 ? 2 : 1;
}

export interface ManifestFile {
  /** Relative to the data directory; tablespace files below pg_tblspc/<oid>/. */
  readonly path: string;
  /** Bytes. */
  readonly size: number;
  /** Seconds since the epoch. */
  readonly mtime: number;
  /** Lower-case hexadecimal, empty where the algorithm is NONE. */
  readonly checksum: string;
}

/** A file as a manifest that was read records it. A path whose bytes are not UTF-8 is one of file-name-bytes.ts. */
export interface RecordedFile extends ManifestFile {
  readonly algorithm: ChecksumAlgorithm;
}

export interface WalRange {
  readonly timeline: number;
  readonly startLsn: Lsn;
  readonly endLsn: Lsn;
}

/** A whole manifest, read from a file; its checksum was right. */
export interface BackupManifest {
  readonly version: ManifestVersion;
  /** Undefined in version 1, and where it is left out. */
  readonly systemIdentifier: bigint | undefined;
  /** By path, in the order of the manifest. */
  readonly files: ReadonlyMap<string, RecordedFile>;
  /** One a timeline that the backup went through. */
  readonly walRanges: readonly WalRange[];
}
