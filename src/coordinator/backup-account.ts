/*
 * Keeps account of what a backup copied: by worker, by tablespace, and what was odd about it. Filled by backup-run.ts as
 * tasks end; its figures are for the report.
 */
import type { TaskWork } from '../copy/messages.js';
import type { ManifestFile } from '../manifest/manifest.js';
import type { SourceTablespace } from '../source/source.js';
import type { BackupReport, TablespaceFigures, WorkerFigures } from './backup-report.js';
import type { CopiedOutcome } from './worker-pool.js';

interface Amount {
  files: number;
  bytes: number;
}

interface TablespaceAmount extends Amount {
  readonly location: string | undefined;
  /** By the account's clock, in milliseconds; undefined while none of its tasks has ended. */
  time?: { beginMs: number; endMs: number };
}

export class BackupAccount {
  vanishedFiles = 0;
  hasBadPages = false;
  /** Undefined: nobody knows. */
  badPageCount: number | undefined = 0;
  retries = 0;
  readonly #workers = new Map<number, Amount & { seconds: number; retries: number }>();
  readonly #tablespaces: ReadonlyMap<number | undefined, TablespaceAmount>;

  readonly #now: () => number;

  /** @param now milliseconds, monotonic */
  constructor(tablespaces: readonly SourceTablespace[], now = (): number => performance.now()) {
    this.#now = now;
    this.#tablespaces = new Map<number | undefined, TablespaceAmount>([
      [undefined, { location: undefined, files: 0, bytes: 0 }],
      ...tablespaces.map(({ oid, location }) => [oid, { location, files: 0, bytes: 0 }] as const),
    ]);
  }

  /** A task that ended well, just now. @param tablespace the one that its files lie in */
  addTask(
    outcome: Pick<CopiedOutcome, 'files' | 'parts' | 'hasBadPages' | 'badPageCount'>,
    work: TaskWork,
    tablespace: number | undefined,
  ): void {
    const { files, parts, hasBadPages, badPageCount } = outcome;
    const worker = this.#worker(work);
    this.#timeTablespace(tablespace, work.seconds);
    // of a file in parts, the first counts
    worker.files += files.length + parts.filter(({ offset }) => offset === 0).length;
    worker.bytes += [...files, ...parts].reduce((sum, { size }) => sum + size, 0);
    if (!hasBadPages) return;
    this.hasBadPages = true;
    if (badPageCount === undefined) this.badPageCount = undefined;
    else if (this.badPageCount !== undefined) this.badPageCount += badPageCount;
  }

  /** A task whose connection broke. */
  addRetry(work: TaskWork): void {
    this.#worker(work).retries += 1;
    this.retries += 1;
  }

  /** A file that is whole. */
  addFile({ path, size }: ManifestFile): void {
    const amount = this.#tablespace(Number(/^pg_tblspc\/(\d+)\//.exec(path)?.[1]));
    if (amount === undefined) return;
    amount.files += 1;
    amount.bytes += size;
  }

  /** What the report has of it. */
  get figures(): Pick<
    BackupReport,
    'workers' | 'tablespaces' | 'vanishedFiles' | 'retries' | 'hasBadPages' | 'badPageCount'
  > {
    const { workers, tablespaces, vanishedFiles, retries, hasBadPages, badPageCount } = this;
    return { workers, tablespaces, vanishedFiles, retries, hasBadPages, badPageCount };
  }

  /** In the order of the threads; those that had nothing to do are not there. */
  get workers(): WorkerFigures[] {
    return [...this.#workers]
      .toSorted(([one], [other]) => one - other)
      .map(([, { files, bytes, seconds, retries }], index) => ({
        worker: index + 1,
        files,
        bytes,
        seconds,
        retries,
      }));
  }

  /** The data directory first. */
  get tablespaces(): TablespaceFigures[] {
    return [...this.#tablespaces].map(([oid, { location, files, bytes, time }]) => ({
      oid,
      location,
      files,
      bytes,
      seconds: time === undefined ? 0 : (time.endMs - time.beginMs) / 1000,
    }));
  }

  /** One within the data directory counts as a part of that. */
  #tablespace(oid: number | undefined): TablespaceAmount | undefined {
    return this.#tablespaces.get(oid) ?? this.#tablespaces.get(undefined);
  }

  #timeTablespace(oid: number | undefined, seconds: number): void {
    const amount = this.#tablespace(oid);
    if (amount === undefined) return;
    const endMs = this.#now();
    const beginMs = endMs - seconds * 1000;
    amount.time = { beginMs: Math.min(beginMs, amount.time?.beginMs ?? beginMs), endMs };
  }

  #worker({ worker, seconds }: TaskWork): Amount & { seconds: number; retries: number } {
    const figures = this.#workers.get(worker) ?? { files: 0, bytes: 0, seconds: 0, retries: 0 };
    figures.seconds += seconds;
    this.#workers.set(worker, figures);
    return figures;
  }
}
