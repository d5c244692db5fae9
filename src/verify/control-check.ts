/*
 * Checks that the backup is of the cluster that its manifest names, and learns from pg_control what the other checks
 * need to know. Called for plain backups and for archives.
 * Source: verify_control_file in PostgreSQL 18's pg_verifybackup.c.
 */
import { isIntactControlFile, parseControlFile, type ControlFile } from '../pgdata/control-file.js';
import type { Verification } from './verification.js';

/**
 * @param name as messages have it: a path, or `base.tar: global/pg_control`
 * @returns undefined where it is damaged, which has been reported
 */
export function checkControlFile(
  { manifest, problems }: Verification,
  name: string,
  bytes: Buffer,
): ControlFile | undefined {
  if (!isIntactControlFile(bytes)) {
    problems.report(`${name}: CRC is incorrect`);
    return undefined;
  }
  const controlFile = parseControlFile(bytes);
  const expected = manifest.systemIdentifier;
  const found = controlFile.systemIdentifier;
  if (expected !== undefined && found !== expected) {
    problems.report(`${name}: manifest system identifier is ${expected}, but control file has ${found}`);
  }
  return controlFile;
}

/** Whether pages are to be checked; says so where they cannot be. */
export function wantsPages({ options, events }: Verification, controlFile: ControlFile | undefined): boolean {
  if (!options.checkPages) return false;
  if (controlFile?.hasDataChecksums === true) return true;
  events.warning(
    controlFile === undefined
      ? 'page checksums were not checked: there is no pg_control to say whether the cluster has them'
      : 'page checksums were not checked: data checksums are not enabled in the cluster',
  );
  return false;
}
