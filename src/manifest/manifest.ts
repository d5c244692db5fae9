/*
 * The backup manifest's model. Format and meaning: PostgreSQL's documentation, "Backup Manifest Format", and
 * src/backend/backup/backup_manifest.c.
 */
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

export interface WalRange {
  readonly timeline: number;
  readonly startLsn: Lsn;
  readonly endLsn: Lsn;
}
