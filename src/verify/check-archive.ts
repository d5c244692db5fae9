/*
 * Compares what is in a compressed archive with the manifest, from its start to its end: what a thread of `verify`
 * does. Archives that are not compressed are checked in parts, by check-files.ts.
 * Source: PostgreSQL 18's src/bin/pg_verifybackup/astreamer_verify.c.
 */
import { ConvoyError } from '../errors.js';
import type { RecordedFile } from '../manifest/manifest.js';
import { readArchive, type ArchiveMember, type ArchiveReceiver } from '../target/archive-reader.js';
import { StreamedWal } from '../wal-check/streamed-wal.js';
import { memberProblem, notReached, walSegmentOf } from './archive-members.js';
import type { CheckTools } from './check-files.js';
import type { CheckOutcome, CheckTask } from './check-messages.js';
import { IgnoredPaths } from './ignored-paths.js';
import { MemberContent } from './member-content.js';

type ArchiveTask = Extract<CheckTask, { kind: 'archive' }>;
type ArchiveOutcome = Extract<CheckOutcome, { kind: 'archive' }>;

/** @throws ConvoyError `target_io` where the archive cannot be read */
export async function checkArchive(task: ArchiveTask, tools: CheckTools): Promise<ArchiveOutcome> {
  const check = new ArchiveCheck(task, tools);
  try {
    await readArchive(task.archive, check);
  } catch (error) {
    if (!(error instanceof ConvoyError) || error.code !== 'file_damaged') throw error;
    return check.outcome(error.message);
  }
  return check.outcome(undefined);
}

class ArchiveCheck implements ArchiveReceiver {
  readonly #task: ArchiveTask;
  readonly #tools: CheckTools;
  readonly #expected: ReadonlyMap<string, RecordedFile>;
  readonly #ignored: IgnoredPaths;
  readonly #seen = new Set<string>();
  readonly #wal: readonly StreamedWal[];
  readonly #problems: string[] = [];
  readonly #pageProblems: string[] = [];
  #controlFile: Buffer | undefined;
  /** Of the member at hand; neither where it is of no interest. */
  #content: MemberContent | undefined;
  #walSegment: string | undefined;

  constructor(task: ArchiveTask, tools: CheckTools) {
    this.#task = task;
    this.#tools = tools;
    this.#expected = new Map(task.files.map((file) => [file.path, file]));
    this.#ignored = new IgnoredPaths(task.ignored);
    const { ranges = [], systemIdentifier } = task.wal ?? {};
    this.#wal = ranges.map((range) => new StreamedWal(range, systemIdentifier));
  }

  begin(member: ArchiveMember): void {
    this.#walSegment = walSegmentOf(member);
    if (this.#walSegment !== undefined) for (const wal of this.#wal) wal.begin(this.#walSegment);
    const isChecked = member.type === 'file' && !this.#ignored.has(member.path);
    this.#content = isChecked ? this.#contentOf(member) : undefined;
  }

  data(chunk: Buffer): undefined {
    if (this.#walSegment !== undefined) for (const wal of this.#wal) wal.data(chunk);
    this.#content?.data(chunk);
  }

  end(): void {
    if (this.#walSegment !== undefined) for (const wal of this.#wal) wal.end();
    const checked = this.#content?.end();
    if (checked === undefined) return;
    this.#problems.push(...checked.problems);
    this.#pageProblems.push(...checked.pageProblems);
    this.#controlFile ??= checked.controlFile;
  }

  /** @param damage why the archive could not be read to its end */
  outcome(damage: string | undefined): ArchiveOutcome {
    const unseen = [...this.#expected.keys()].filter(
      (path) => !this.#seen.has(path) && !this.#ignored.has(path),
    );
    const rest =
      damage === undefined
        ? unseen.map((path) => `"${path}" is present in the manifest but not on disk`)
        : [damage, ...notReached(unseen.length, this.#task.archive.name)];
    const found = this.#wal.map((wal) => wal.finish());
    return {
      kind: 'archive',
      problems: [...this.#problems, ...rest],
      pageProblems: this.#pageProblems,
      controlFile: this.#controlFile,
      // without a segment at all it is for whoever knows the other archives to say so
      walProblems: found.every((each) => each === undefined) ? undefined : found.map((each) => each ?? []),
    };
  }

  #contentOf(member: ArchiveMember): MemberContent | undefined {
    const { archive } = this.#task;
    const recorded = this.#expected.get(member.path);
    this.#seen.add(member.path);
    const problem = memberProblem(archive, member, recorded);
    if (problem !== undefined) this.#problems.push(problem);
    if (problem !== undefined || recorded === undefined) return undefined;
    return new MemberContent(recorded, archive.name, this.#tools);
  }
}
