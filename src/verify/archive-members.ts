/*
 * Members of archives, compared with the manifest by name and size. Called where an archive is indexed
 * (tar-backup.ts) and where it is read as a stream (check-archive.ts). Source: member_verify_header in PostgreSQL 18's
 * src/bin/pg_verifybackup/astreamer_verify.c.
 */
import type { RecordedFile } from '../manifest/manifest.js';
import { isWalSegmentName } from '../pgdata/wal-names.js';
import type { ArchiveMember } from '../target/archive-reader.js';
import type { BackupArchive } from '../target/finished-backup.js';

const WAL_PREFIX = 'pg_wal/';

/** What is wrong with a member's name or size, undefined where nothing is. */
export function memberProblem(
  { name: archive, prefix }: BackupArchive,
  { path, size }: ArchiveMember,
  recorded: RecordedFile | undefined,
): string | undefined {
  const member = path.slice(prefix.length);
  if (recorded === undefined) {
    return `file "${member}" is present in archive "${archive}" but not in the manifest`;
  }
  if (recorded.size === size) return undefined;
  return `file "${member}" has size ${size} in archive "${archive}" but size ${recorded.size} in the manifest`;
}

/** The name of the WAL segment that a member is, undefined where it is none. */
export function walSegmentOf({ path, type }: ArchiveMember): string | undefined {
  if (type !== 'file' || !path.startsWith(WAL_PREFIX)) return undefined;
  const name = path.slice(WAL_PREFIX.length);
  return isWalSegmentName(name) ? name : undefined;
}

/** The files of the manifest that one archive is to hold: those of its tablespace, or of none with an archive. */
export function filesOfArchive(
  files: Iterable<RecordedFile>,
  archive: BackupArchive,
  archives: readonly BackupArchive[],
): RecordedFile[] {
  const others = archives.filter((other) => other !== archive && other.prefix.startsWith(archive.prefix));
  return [...files].filter(
    ({ path }) => path.startsWith(archive.prefix) && !others.some((other) => path.startsWith(other.prefix)),
  );
}

/** Said instead of naming each of them where an archive could not be read to its end. */
export function notReached(count: number, archive: string): string[] {
  return count === 0 ? [] : [`archive "${archive}" ends before ${count} files of the manifest`];
}
