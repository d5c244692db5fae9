/*
 * global/pg_control: what identifies a cluster, its last checkpoint, and whether its pages have checksums. Read is the
 * head of the structure, which is the same in all supported releases; what comes later is found by the constant that it
 * follows, and the CRC, which closes the structure, by where it matches. Source: ControlFileData in PostgreSQL's src/include/catalog/pg_control.h.
 */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { crc32c } from '../crc32.js';
import { ConvoyError, fileError } from '../errors.js';
import { CONTROL_FILE_BYTES } from '../limits.js';
import type { Lsn } from '../lsn.js';

/** Relative to the data directory. */
export const CONTROL_FILE_PATH = 'global/pg_control';

export interface ControlFile {
  readonly systemIdentifier: bigint;
  readonly controlVersion: number;
  readonly catalogVersion: number;
  /** Location of the last checkpoint record. */
  readonly checkPoint: Lsn;
  /** Where redo from that checkpoint begins. */
  readonly redo: Lsn;
  /** Timeline of that checkpoint. */
  readonly timeline: number;
  /** Pages have checksums. */
  readonly hasDataChecksums: boolean;
}

/** Torn reads heal within one write; PostgreSQL's get_controlfile retries the same way. */
const READ_ATTEMPTS = 10;
const RETRY_DELAY_MS = 10;

/** The structure is shorter than a sector (PG_CONTROL_MAX_SAFE_SIZE), so its CRC ends before this. */
const MAX_SAFE_BYTES = 512;
const FIRST_CRC_OFFSET = 200;

/** FLOATFORMAT_VALUE, 1234567.0; data_checksum_version comes 44 bytes after it. */
const FLOAT_FORMAT = 1_234_567;
const CHECKSUM_VERSION_DISTANCE = 44;
const FIRST_FLOAT_OFFSET = 104;

/** True where the file is whole: its CRC-32C matches. A file that a server is just writing may be torn. */
export function isIntactControlFile(bytes: Buffer): boolean {
  if (bytes.length !== CONTROL_FILE_BYTES) return false;
  let crc = crc32c(bytes.subarray(0, FIRST_CRC_OFFSET));
  for (let offset = FIRST_CRC_OFFSET; offset < MAX_SAFE_BYTES; offset += 4) {
    if (bytes.readUInt32LE(offset) === crc) return true;
    crc = crc32c(bytes.subarray(offset, offset + 4), crc);
  }
  return false;
}

/** @throws ConvoyError `file_damaged` where the CRC does not match: torn, or damaged */
export function parseControlFile(bytes: Buffer): ControlFile {
  if (!isIntactControlFile(bytes)) {
    throw new ConvoyError('file_damaged', `invalid checksum in control file "${CONTROL_FILE_PATH}"`);
  }
  return {
    systemIdentifier: bytes.readBigUInt64LE(0),
    controlVersion: bytes.readUInt32LE(8),
    catalogVersion: bytes.readUInt32LE(12),
    checkPoint: bytes.readBigUInt64LE(32) as Lsn,
    redo: bytes.readBigUInt64LE(40) as Lsn,
    timeline: bytes.readUInt32LE(48),
    hasDataChecksums: hasDataChecksums(bytes),
  };
}

function hasDataChecksums(bytes: Buffer): boolean {
  for (let offset = FIRST_FLOAT_OFFSET; offset < MAX_SAFE_BYTES; offset += 8) {
    if (bytes.readDoubleLE(offset) === FLOAT_FORMAT) {
      return bytes.readUInt32LE(offset + CHECKSUM_VERSION_DISTANCE) > 0;
    }
  }
  return false;
}

/**
 * The bytes of the control file below `dataDirectory`, read again while they are torn.
 *
 * @throws ConvoyError `target_io` where it cannot be read, `file_damaged` where it stays wrong
 */
export async function readControlFileBytes(dataDirectory: string): Promise<Buffer> {
  const file = path.join(dataDirectory, CONTROL_FILE_PATH);
  for (let attempt = 1; ; attempt += 1) {
    const bytes = await readFile(file).catch((error: unknown) => {
      throw fileError('read file', file, error);
    });
    if (isIntactControlFile(bytes)) return bytes;
    if (attempt === READ_ATTEMPTS) {
      throw new ConvoyError('file_damaged', `invalid checksum in control file "${file}"`);
    }
    await delay(RETRY_DELAY_MS);
  }
}

export async function readControlFile(dataDirectory: string): Promise<ControlFile> {
  return parseControlFile(await readControlFileBytes(dataDirectory));
}
