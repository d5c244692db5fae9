/*
 * What can be wrong with a backup, file by file, in pg_verifybackup's words (src/bin/pg_verifybackup/pg_verifybackup.c).
 */

export function notAFile(path: string): string {
  return `"${path}" is not a file or directory`;
}

export function notInManifest(path: string): string {
  return `"${path}" is present in the backup but not in the manifest`;
}

export function notInBackup(path: string): string {
  return `"${path}" is present in the manifest but not in the backup`;
}

export function twiceInBackup(path: string): string {
  return `"${path}" is present more than once in the backup`;
}

export function otherSize(path: string, bytes: number, recorded: number): string {
  return `"${path}" has size ${bytes} in the backup but size ${recorded} in the manifest`;
}

export function otherChecksum(path: string): string {
  return `checksum mismatch for file "${path}"`;
}
