/*
 * Checks that the backup is of the cluster that its manifest names, and learns from pg_control what the other checks
 * need to know. Called for plain backups and for archives.
 * Source: verify_control_file in PostgreSQL 18's pg_verifybackup.c.
 */
import { CONTROL_FILE_BYTES } from '../limits.js';
import { isIntactControlFile, parseControlFile, type ControlFile } from '../pgdata/control-file.js';
import type { Verification } from './verification.js';

/** sizeof(ControlFileData) of PostgreSQL 18: what it reads of the file. */
const CONTROL_DATA_BYTES = 296;

/**
 * A manifest of version 1 names no cluster: nothing is reported then.
 *
 * @param name as messages have it: a path, or `base.tar: global/pg_control`
 * @returns undefined where it is damaged
 */
export function checkControlFile(
  { manifest, problems }: Verification,
  name: string,
  bytes: Buffer,
): ControlFile | undefined {
  const namesCluster = manifest.version > 1;
  if (namesCluster && bytes.length < CONTROL_DATA_BYTES) {
    problems.report(`could not read file "${name}": read ${bytes.length} of ${CONTROL_DATA_BYTES}`);
    return undefined;
  }
  // a wrong size is for whoever compares sizes; what comes after the data is zeros
  const data = Buffer.alloc(CONTROL_FILE_BYTES);
  bytes.copy(data);
  if (!isIntactControlFile(data)) {
    if (namesCluster) problems.report(`${name}: CRC is incorrect`);
    return undefined;
  }
  const controlFile = parseControlFile(data);
  const expected = manifest.systemIdentifier ?? 0n;
  const found = controlFile.systemIdentifier;
  if (namesCluster && found !== expected) {
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
