/*
 * Verifies a backup that consists of tar archives. One that is not compressed is indexed, and its members are checked
 * like the files of a directory, by all threads; a compressed one is read from start to end by one thread.
 * Called by verify.ts. Source: verify_tar_backup in PostgreSQL 18's pg_verifybackup.c.
 */
import { closeSync, openSync, readSync } from 'node:fs';
import { ConvoyError, fileError } from '../errors.js';
import { CONTROL_FILE_BYTES } from '../limits.js';
import type { RecordedFile } from '../manifest/manifest.js';
import { CONTROL_FILE_PATH, type ControlFile } from '../pgdata/control-file.js';
import { indexArchive, type IndexedMember } from '../target/archive-reader.js';
import type { BackupArchive } from '../target/finished-backup.js';
import type { WalFile } from '../wal-check/check-segments.js';
import { readWalDirectory } from '../wal-check/wal-directory.js';
import { filesOfArchive, memberProblem, walSegmentOf } from './archive-members.js';
import type { CheckedFile, CheckSettings } from './check-messages.js';
import { checkControlFile, wantsPages } from './control-check.js';
import { checkRecordedFiles } from './recorded-files.js';
import { walProblems } from '../wal-check/check-ranges.js';
import { checkRequiredWal } from './required-wal.js';
import { reportUnexpected, usableArchives } from './usable-archives.js';
import { checkSettings, type Verification } from './verification.js';

/** An archive, and what the manifest says should be in it. */
interface ExpectedArchive {
  readonly archive: BackupArchive;
  readonly files: readonly RecordedFile[];
  /** Undefined where it can only be read from its start: compressed, or cut short. */
  readonly members: readonly IndexedMember[] | undefined;
}

/** @param unexpected names of files beside the archives @throws ConvoyError, FirstProblem */
export async function verifyTarBackup(
  verification: Verification,
  archives: readonly BackupArchive[],
  unexpected: readonly string[],
): Promise<void> {
  const { options, events, counters } = verification;
  reportUnexpected(verification, unexpected);
  const needsWal = options.checkWal && options.walDirectory === undefined;
  const wanted = archives.filter((archive) => needsWal || !isWalArchive(archive));
  const expected = expectedArchives(verification, usableArchives(verification, wanted));
  const bytes = expected.flatMap(({ files }) => files).reduce((sum, { size }) => sum + size, 0);
  const files = expected.reduce((sum, each) => sum + each.files.length, 0);
  events.readingStarted({ bytes, files }, () => counters.read());
  try {
    await new TarVerification(verification, expected).run();
  } finally {
    events.readingEnded();
  }
}

/** Reports the files for which there is no archive. */
function expectedArchives(
  { manifest, ignored, problems }: Verification,
  archives: readonly BackupArchive[],
): ExpectedArchive[] {
  for (const { path } of manifest.files.values()) {
    const isHeld = archives.some(({ prefix }) => path.startsWith(prefix));
    if (!isHeld && !ignored.has(path)) problems.report(missing(path));
  }
  return archives.map((archive) => ({
    archive,
    files: isWalArchive(archive) ? [] : filesOfArchive(manifest.files.values(), archive, archives),
    members: membersOf(archive),
  }));
}

function missing(path: string): string {
  return `"${path}" is present in the manifest but not on disk`;
}

function isWalArchive({ prefix }: BackupArchive): boolean {
  return prefix === 'pg_wal/';
}

function membersOf(archive: BackupArchive): IndexedMember[] | undefined {
  if (archive.compression !== 'none') return undefined;
  try {
    return indexArchive(archive);
  } catch (error) {
    // whoever reads it as a stream finds the same, and what comes before it
    if (error instanceof ConvoyError) return undefined;
    throw error;
  }
}

class TarVerification {
  readonly #verification: Verification;
  readonly #archives: readonly ExpectedArchive[];
  /** That of the data directory. */
  readonly #base: ExpectedArchive | undefined;
  /** The one that is to hold the WAL, if any is. */
  readonly #walArchive: ExpectedArchive | undefined;
  #controlFile: ControlFile | undefined;

  constructor(verification: Verification, archives: readonly ExpectedArchive[]) {
    const { checkWal, walDirectory } = verification.options;
    this.#verification = verification;
    this.#archives = archives;
    this.#base = archives.find(({ archive }) => archive.prefix === '');
    this.#walArchive =
      checkWal && walDirectory === undefined
        ? (archives.find(({ archive }) => isWalArchive(archive)) ?? this.#base)
        : undefined;
  }

  async run(): Promise<void> {
    const { checkPages } = this.#verification.options;
    const base = this.#base;
    if (base?.members !== undefined) this.#controlFile = this.#indexedControlFile(base.archive, base.members);
    // in a compressed archive pg_control comes last
    const isKnown = base === undefined || base.members !== undefined;
    const settings = checkSettings(
      this.#verification,
      isKnown ? wantsPages(this.#verification, this.#controlFile) : checkPages,
    );
    const work = this.#archives.map(({ archive, files, members }) =>
      members === undefined
        ? this.#checkStreamed(archive, files, settings)
        : this.#checkIndexed(archive, files, members, settings),
    );
    await Promise.all([...work, this.#checkWal()]);
  }

  async #checkIndexed(
    archive: BackupArchive,
    files: readonly RecordedFile[],
    members: readonly IndexedMember[],
    settings: CheckSettings,
  ): Promise<void> {
    const { ignored, problems } = this.#verification;
    const expected = new Map(files.map((file) => [file.path, file]));
    const checked: CheckedFile[] = [];
    for (const member of members) {
      if (member.type !== 'file' || ignored.has(member.path)) continue;
      const recorded = expected.get(member.path);
      expected.delete(member.path);
      const problem = memberProblem(archive, member, recorded);
      if (problem !== undefined) problems.report(problem);
      else if (recorded !== undefined) checked.push({ ...recorded, offset: member.offset });
    }
    for (const path of expected.keys()) {
      if (!ignored.has(path)) problems.report(missing(path));
    }
    const root = { kind: 'archive', name: archive.name, path: archive.path } as const;
    await checkRecordedFiles(this.#verification, settings, root, checked);
  }

  async #checkStreamed(
    archive: BackupArchive,
    files: readonly RecordedFile[],
    settings: CheckSettings,
  ): Promise<void> {
    const { manifest, options, pool, problems } = this.#verification;
    const holdsWal = archive === this.#walArchive?.archive;
    const outcome = await pool.run<'archive'>({
      kind: 'archive',
      settings,
      archive,
      files,
      ignored: options.ignore,
      wal: holdsWal ? { ranges: manifest.walRanges, systemIdentifier: manifest.systemIdentifier } : undefined,
    });
    if (outcome.kind === 'unreadable') return problems.report(outcome.problem);
    problems.reportAll(outcome.problems);
    if (outcome.controlFile !== undefined) {
      const bytes = Buffer.from(outcome.controlFile);
      this.#controlFile = checkControlFile(this.#verification, controlName(archive), bytes);
    }
    if (archive === this.#base?.archive && settings.pageStartLsn !== undefined) {
      if (wantsPages(this.#verification, this.#controlFile)) problems.reportAll(outcome.pageProblems);
    } else if (this.#controlFile?.hasDataChecksums !== false) {
      problems.reportAll(outcome.pageProblems);
    }
    if (!holdsWal) return;
    for (const [index, range] of manifest.walRanges.entries()) {
      const reasons = outcome.walProblems?.[index] ?? ['could not find any WAL file'];
      problems.reportAll(walProblems(range, reasons));
    }
  }

  /** That of a directory, or of an archive whose members can be read in any order. */
  async #checkWal(): Promise<void> {
    const { manifest, options } = this.#verification;
    const { walDirectory } = options;
    const archived = this.#walArchive;
    // whoever reads the archive checks what is in it
    const isStreamed = archived !== undefined && archived.members === undefined;
    if (!options.checkWal || isStreamed) return;
    const files = (): ReadonlyMap<string, WalFile> =>
      walDirectory === undefined
        ? archivedSegments(archived?.archive.path ?? '', archived?.members ?? [])
        : readWalDirectory(walDirectory);
    const systemIdentifier = manifest.systemIdentifier ?? this.#controlFile?.systemIdentifier;
    await checkRequiredWal(this.#verification, files, systemIdentifier);
  }

  #indexedControlFile(archive: BackupArchive, members: readonly IndexedMember[]): ControlFile | undefined {
    const member = members.find(({ path }) => path === CONTROL_FILE_PATH);
    if (member?.size !== CONTROL_FILE_BYTES) return undefined;
    const bytes = Buffer.alloc(CONTROL_FILE_BYTES);
    try {
      const descriptor = openSync(archive.path, 'r');
      try {
        readSync(descriptor, bytes, 0, bytes.length, member.offset);
      } finally {
        closeSync(descriptor);
      }
    } catch (error) {
      throw fileError('read file', archive.path, error);
    }
    return checkControlFile(this.#verification, controlName(archive), bytes);
  }
}

function controlName({ name }: BackupArchive): string {
  return `${name}: ${CONTROL_FILE_PATH}`;
}

function archivedSegments(path: string, members: readonly IndexedMember[]): Map<string, WalFile> {
  const segments = new Map<string, WalFile>();
  for (const member of members) {
    const name = walSegmentOf(member);
    if (name !== undefined) segments.set(name, { path, offset: member.offset, bytes: member.size });
  }
  return segments;
}
