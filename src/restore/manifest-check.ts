/*
 * Holds what was restored against the manifest: every file once, with the size and the checksum recorded. Kept by
 * restore.ts, which adds files as threads finish them. What is ignored: main() of PostgreSQL's pg_verifybackup.c.
 */
import { type ChecksumAlgorithm, formatCrc32c, parseCrc32c } from '../checksum.js';
import { CRC32C } from '../crc-combine.js';
import { MANIFEST_PATH, type BackupManifest, type RecordedFile } from '../manifest/manifest.js';
import { AUTO_CONF_PATH, RECOVERY_SIGNAL_PATH, STANDBY_SIGNAL_PATH } from '../pgdata/recovery-settings.js';
import type { RestoredFile } from './messages.js';
import { notInBackup, notInManifest, otherChecksum, otherSize, twiceInBackup } from './problems.js';

/** pg_basebackup and its users change these; the WAL has checksums of its own. */
const UNCHECKED_FILES: ReadonlySet<string> = new Set([
  MANIFEST_PATH,
  AUTO_CONF_PATH,
  RECOVERY_SIGNAL_PATH,
  STANDBY_SIGNAL_PATH,
]);

function isUnchecked(path: string): boolean {
  return UNCHECKED_FILES.has(path) || path.startsWith('pg_wal/');
}

/** The algorithm to take checksums with while files are restored: that of the manifest, which has one. */
export function algorithmOf({ files }: BackupManifest): ChecksumAlgorithm {
  for (const { algorithm } of files.values()) if (algorithm !== 'NONE') return algorithm;
  return 'NONE';
}

export class ManifestCheck {
  readonly #manifest: BackupManifest;
  readonly #checksums: boolean;
  readonly #seen = new Set<string>();
  readonly #parts = new Map<string, RestoredFile[]>();
  readonly #otherwise: RecordedFile[] = [];
  readonly #problem: (message: string) => void;
  problems = 0;

  /** @param checksums false: only names and sizes count */
  constructor(manifest: BackupManifest, checksums: boolean, problem: (message: string) => void) {
    this.#manifest = manifest;
    this.#checksums = checksums;
    this.#problem = problem;
  }

  add(file: RestoredFile): void {
    if (isUnchecked(file.path)) return;
    const whole = file.part === undefined ? file : this.#withOtherParts(file, file.part.wholeBytes);
    if (whole !== undefined) this.#check(whole);
  }

  /** What is left when everything was added. */
  finish(): void {
    for (const { path } of this.#manifest.files.values()) {
      if (!this.#seen.has(path) && !isUnchecked(path)) this.#report(notInBackup(path));
    }
  }

  /** Files that were restored with another checksum than the one recorded, to be read again. */
  get toReadAgain(): readonly RecordedFile[] {
    return this.#otherwise;
  }

  /** A file of `toReadAgain`, with the checksum that it should have been restored with. */
  addReadAgain({ path, checksum }: RestoredFile): void {
    if (this.#manifest.files.get(path)?.checksum !== checksum) this.#report(otherChecksum(path));
  }

  #check({ path, size, checksum, algorithm }: RestoredFile): void {
    const recorded = this.#manifest.files.get(path);
    if (this.#seen.has(path)) return this.#report(twiceInBackup(path));
    this.#seen.add(path);
    if (recorded === undefined) return this.#report(notInManifest(path));
    if (recorded.size !== size) return this.#report(otherSize(path, size, recorded.size));
    if (!this.#checksums || recorded.algorithm === 'NONE') return;
    if (recorded.algorithm !== algorithm) this.#otherwise.push(recorded);
    else if (recorded.checksum !== checksum) this.#report(otherChecksum(path));
  }

  #report(message: string): void {
    this.problems += 1;
    this.#problem(message);
  }

  /** @returns the whole file, with its last part */
  #withOtherParts(part: RestoredFile, wholeBytes: number): RestoredFile | undefined {
    const parts = this.#parts.get(part.path) ?? [];
    parts.push(part);
    this.#parts.set(part.path, parts);
    const bytes = parts.reduce((sum, { size }) => sum + size, 0);
    if (bytes < wholeBytes) return undefined;
    this.#parts.delete(part.path);
    return joinParts(parts, bytes);
  }
}

/** True where the checksum of a whole follows from those of its parts. */
export function canCombine(algorithm: ChecksumAlgorithm): boolean {
  return algorithm === 'CRC32C' || algorithm === 'NONE';
}

function joinParts(parts: readonly RestoredFile[], size: number): RestoredFile | undefined {
  const [first, ...rest] = parts.toSorted((a, b) => (a.part?.offset ?? 0) - (b.part?.offset ?? 0));
  if (first === undefined) return undefined;
  const { path, algorithm } = first;
  if (algorithm === 'NONE') return { path, algorithm, size, checksum: '' };
  const crc = rest.reduce(
    (sum, part) => CRC32C.combine(sum, parseCrc32c(part.checksum), part.size),
    parseCrc32c(first.checksum),
  );
  return { path, algorithm, size, checksum: formatCrc32c(crc) };
}
