/*
 * How much room a plain backup takes, and where: asked before the first byte is copied, and by `pgconvoy check`. WAL that
 * is written while the backup runs is not known beforehand; callers say what they reckon with.
 */
import type { SourceFile } from '../source/source.js';
import type { SpaceNeed } from '../target/free-space.js';
import { memberBytes } from '../target/archive-layout.js';
import type { ArchiveTargetSpec, DirectoryTargetSpec } from '../target/target.js';

/** @param walBytes what WAL will take in the data directory */
export function spaceNeeds(
  { directory, tablespaces }: Pick<DirectoryTargetSpec, 'directory' | 'tablespaces'>,
  files: readonly Pick<SourceFile, 'size' | 'tablespace'>[],
  walBytes: number,
): SpaceNeed[] {
  const bytesIn = new Map<number | undefined, number>();
  for (const { size, tablespace } of files) bytesIn.set(tablespace, (bytesIn.get(tablespace) ?? 0) + size);
  const inTablespaces = tablespaces.map(({ oid, location }) => ({
    directory: location,
    bytes: bytesIn.get(oid) ?? 0,
  }));
  return [{ directory, bytes: (bytesIn.get(undefined) ?? 0) + walBytes }, ...inTablespaces];
}

/** @param walBytes what WAL will take in the data directory's archive */
export function archiveNeeds(
  { directory, compression }: Pick<ArchiveTargetSpec, 'directory' | 'compression'>,
  files: readonly Pick<SourceFile, 'size'>[],
  walBytes: number,
): SpaceNeed[] {
  // nothing is known beforehand of what will be compressed
  if (directory === undefined || compression.method !== 'none') return [];
  return [{ directory, bytes: files.reduce((sum, { size }) => sum + memberBytes(size), walBytes) }];
}
