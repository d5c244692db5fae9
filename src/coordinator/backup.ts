/*
 * A base backup, told from start to end; each step is one call. Called by the `backup` command and the public API.
 * Whoever starts a backup owns its end: on every way out the server leaves backup mode, the threads are gone, and
 * a target that is not complete is removed.
 */
import type { CopyTools } from '../copy/paced-file.js';
import { ProgressCounters } from '../copy/progress-counters.js';
import { canCombine, RangeAssembly } from '../copy/range-assembly.js';
import { asConvoyError, ConvoyError } from '../errors.js';
import { formatLsn } from '../lsn.js';
import { manifestVersionOf } from '../manifest/manifest.js';
import { ManifestWriter } from '../manifest/manifest-writer.js';
import { BACKUP_LABEL_PATH } from '../pgdata/backup-label.js';
import { planLimits, planTasks, type CopyTask } from '../plan/plan.js';
import { openSource, type OpenedSource } from '../source/open-source.js';
import type { FileList, StartedBackup, StoppedBackup } from '../source/source.js';
import { DirectoryTarget, refuseUnlessEmpty } from '../target/directory-target.js';
import { resolveInDirectory } from '../target/directory-writer.js';
import { refuseUnlessRoom, type SpaceNeed } from '../target/free-space.js';
import { openTarget } from '../target/open-target.js';
import { createRateBudget, RateLimit, type RateBudget } from '../target/rate-limit.js';
import type { DirectoryTargetSpec } from '../target/target.js';
import type { BackupEvents, BackupOptions, BackupReport } from './backup-options.js';
import { StopFiles, writeWhole } from './stop-files.js';
import { mapTablespaces } from './tablespace-mapping.js';
import { WorkerPool, type CopiedOutcome } from './worker-pool.js';

/**
 * Takes a base backup.
 *
 * @param signal aborts it; the reason is what the returned promise rejects with
 * @throws ConvoyError the first thing that went wrong; the target is removed then, unless `keepOnFailure`
 */
export async function backup(
  options: BackupOptions,
  events: BackupEvents,
  signal: AbortSignal,
): Promise<BackupReport> {
  refuseUnlessEmpty(options.directory);
  signal.throwIfAborted();
  const { askPassword, source: choice, jobs } = options;
  const opened = await openSource(options.connection, {
    choice,
    jobs,
    includeWal: options.wal === 'fetch',
    askPassword,
    onWarning: (message) => events.warning(message),
    signal,
  }).catch((error: unknown) => {
    throw signal.aborted ? asConvoyError(signal.reason, 'cancelled') : error;
  });
  if (opened.reason !== undefined) events.notice(opened.reason);
  const run = new BackupRun(options, events, opened);
  return await run.complete(signal);
}

class BackupRun {
  readonly #options: BackupOptions;
  readonly #events: BackupEvents;
  readonly #opened: OpenedSource;
  readonly #counters = new ProgressCounters();
  readonly #rateBudget: RateBudget = createRateBudget();
  #target: DirectoryTarget | undefined;
  #pool: WorkerPool | undefined;
  #manifest: ManifestWriter | undefined;
  /** Set once, by whatever ends the backup early. */
  #failure: ConvoyError | undefined;
  #vanishedFiles = 0;
  #hasBadPages = false;

  constructor(options: BackupOptions, events: BackupEvents, opened: OpenedSource) {
    this.#options = options;
    this.#events = events;
    this.#opened = opened;
  }

  async complete(signal: AbortSignal): Promise<BackupReport> {
    const { source } = this.#opened;
    const abort = (): void => this.#fail(asConvoyError(signal.reason, 'cancelled'));
    void source.lost.then((reason) => this.#fail(reason));
    signal.addEventListener('abort', abort);
    if (signal.aborted) abort();
    try {
      const report = await this.#steps();
      await this.#pool?.stop();
      await source.close();
      return report;
    } catch (error) {
      // what a step says once it was made to fail is not the cause
      throw await this.#cleanUp(this.#failure ?? asConvoyError(error, 'worker_failed'));
    } finally {
      signal.removeEventListener('abort', abort);
      this.#manifest?.[Symbol.dispose]();
    }
  }

  async #steps(): Promise<BackupReport> {
    const started = await this.#start();
    const list = await this.#opened.source.list();
    const tasks = this.#plan(list);
    const spec = this.#prepareTarget(started, list);
    this.#openManifest(spec);
    await this.#copy(started, spec, tasks, list);
    const stopFiles = new StopFiles(this.#tools(spec));
    const stopped = await this.#stop(started, stopFiles);
    this.#writeLabel(stopped, spec);
    this.#finishManifestFiles(stopFiles);
    await this.#sync(spec, list, stopFiles);
    this.#finishManifest(started, stopped);
    return this.#report(started, stopped);
  }

  async #start(): Promise<StartedBackup> {
    const { label, fastCheckpoint, wal } = this.#options;
    this.#events.detail('initiating base backup, waiting for checkpoint to complete');
    const started = await this.#opened.source.start({ label, fastCheckpoint, includeWal: wal === 'fetch' });
    this.#events.detail('checkpoint completed');
    const where = `${formatLsn(started.startLsn)} on timeline ${started.startTimeline}`;
    this.#events.detail(`write-ahead log start point: ${where}`);
    return started;
  }

  #plan(list: FileList): CopyTask[] {
    const { jobs, manifestChecksums = 'NONE' } = this.#options;
    const splitFiles = this.#opened.source.readsRanges && canCombine(manifestChecksums);
    return planTasks(list.files, planLimits(sumOfSizes(list), jobs, splitFiles));
  }

  #prepareTarget(started: StartedBackup, list: FileList): DirectoryTargetSpec {
    const { directory, tablespaceMappings } = this.#options;
    const warn = (message: string): void => this.#events.warning(message);
    const tablespaces = mapTablespaces(started.tablespaces, tablespaceMappings, warn);
    const spec: DirectoryTargetSpec = { kind: 'directory', directory, tablespaces };
    refuseUnlessRoom(spaceNeeds(spec, list));
    this.#target = new DirectoryTarget(spec);
    this.#target.prepare(this.#opened.source.server.directoryMode, list.directories);
    return spec;
  }

  #openManifest({ directory }: DirectoryTargetSpec): void {
    const algorithm = this.#options.manifestChecksums;
    if (algorithm === undefined) return;
    const { major, systemIdentifier } = this.#opened.source.server;
    const version = manifestVersionOf(major);
    this.#manifest = new ManifestWriter({
      directory,
      version,
      systemIdentifier,
      algorithm,
      mode: this.#fileMode,
    });
  }

  async #copy(
    started: StartedBackup,
    spec: DirectoryTargetSpec,
    tasks: CopyTask[],
    list: FileList,
  ): Promise<void> {
    const { jobs, maxRateBytesPerSecond, verifyPageChecksums } = this.#options;
    this.#throwIfFailed();
    this.#pool = new WorkerPool(
      {
        source: this.#opened.spec,
        target: spec,
        startLsn: started.startLsn,
        algorithm: this.#options.manifestChecksums ?? 'NONE',
        verifyPageChecksums,
        rate:
          maxRateBytesPerSecond === undefined
            ? undefined
            : { budget: this.#rateBudget, bytesPerSecond: maxRateBytesPerSecond },
        progress: this.#counters.memory,
      },
      Math.min(jobs, Math.max(tasks.length, 1)),
    );
    const totals = { bytes: sumOfSizes(list), files: list.files.length };
    const ranges = new RangeAssembly(tasks);
    this.#events.copyStarted(totals, () => this.#counters.read());
    try {
      await this.#pool.copyAll(tasks, (outcome) => this.#noteCopied(outcome, ranges));
    } finally {
      this.#events.copyEnded();
    }
  }

  #noteCopied({ files, parts, vanished, hasBadPages, warnings }: CopiedOutcome, ranges: RangeAssembly): void {
    for (const warning of warnings) this.#events.warning(warning);
    this.#hasBadPages ||= hasBadPages;
    for (const file of files) this.#manifest?.addFile(file);
    const settled = [
      ...parts.map((part) => ranges.addPart(part)),
      ...vanished.map((path) => ranges.addVanished(path)),
    ];
    for (const whole of settled) {
      if (whole?.kind === 'complete') this.#manifest?.addFile(whole.file);
      if (whole?.kind === 'vanished') this.#target?.removeFile(whole.path);
    }
    const gone = settled.filter((whole) => whole?.kind === 'vanished').length;
    this.#vanishedFiles += gone + vanished.filter((path) => !ranges.wasCut(path)).length;
  }

  async #stop(started: StartedBackup, files: StopFiles): Promise<StoppedBackup> {
    const { source } = this.#opened;
    const includeWal = this.#options.wal === 'fetch';
    this.#events.detail('waiting for the server to finish the base backup');
    // a backup that brings its WAL along does not need the archive
    const stopped = await source.stop({ includeWal, waitForArchive: !includeWal }, files);
    if (stopped.stopTimeline !== started.startTimeline) {
      throw new ConvoyError('server_error', 'the server switched to another timeline during the backup');
    }
    files.writeControlFile(source.server.systemIdentifier);
    this.#events.detail(`write-ahead log end point: ${formatLsn(stopped.stopLsn)}`);
    return stopped;
  }

  #writeLabel({ backupLabel }: StoppedBackup, spec: DirectoryTargetSpec): void {
    const file = { path: BACKUP_LABEL_PATH, mode: this.#fileMode, mtime: Math.floor(Date.now() / 1000) };
    const written = writeWhole(this.#tools(spec), file, Buffer.from(backupLabel));
    this.#manifest?.addFile(written);
  }

  #finishManifestFiles(stopFiles: StopFiles): void {
    for (const file of stopFiles.manifestFiles) this.#manifest?.addFile(file);
  }

  async #sync(spec: DirectoryTargetSpec, list: FileList, stopFiles: StopFiles): Promise<void> {
    if (!this.#options.sync) return;
    this.#events.detail('syncing data to disk ...');
    const paths = [...list.files.map((file) => file.target), ...stopFiles.paths, BACKUP_LABEL_PATH];
    await this.#pool?.syncAll(paths.map((path) => resolveInDirectory(spec, path)));
    this.#target?.syncDirectories();
  }

  #finishManifest({ startLsn, startTimeline }: StartedBackup, { stopLsn }: StoppedBackup): void {
    this.#throwIfFailed();
    const { sync } = this.#options;
    this.#manifest?.finish([{ timeline: startTimeline, startLsn, endLsn: stopLsn }], sync);
    if (sync) this.#target?.syncDirectories();
    this.#events.detail('base backup completed');
  }

  #report({ startLsn, startTimeline }: StartedBackup, { stopLsn }: StoppedBackup): BackupReport {
    return {
      startLsn,
      stopLsn,
      timeline: startTimeline,
      copied: this.#counters.read(),
      vanishedFiles: this.#vanishedFiles,
      retries: this.#pool?.retries ?? 0,
      hasBadPages: this.#hasBadPages,
    };
  }

  #tools(spec: DirectoryTargetSpec): CopyTools {
    const rate = this.#options.maxRateBytesPerSecond;
    return {
      target: openTarget(spec),
      algorithm: this.#options.manifestChecksums ?? 'NONE',
      rate: rate === undefined ? undefined : new RateLimit(this.#rateBudget, rate),
      progress: this.#counters,
    };
  }

  /** As the server's own files: the group may read them where it may read the directory. */
  get #fileMode(): number {
    return this.#opened.source.server.directoryMode & 0o666;
  }

  /** Makes every step that runs fail at once: the connections are gone. */
  #fail(reason: ConvoyError): void {
    if (this.#failure !== undefined) return;
    this.#failure = reason;
    this.#opened.source.destroy();
    void this.#pool?.stop();
  }

  #throwIfFailed(): void {
    if (this.#failure !== undefined) throw this.#failure;
  }

  /** @returns the error to report */
  async #cleanUp(error: ConvoyError): Promise<ConvoyError> {
    this.#opened.source.destroy();
    await this.#pool?.stop();
    if (this.#options.keepOnFailure) {
      for (const [index, directory] of (this.#target?.directories ?? []).entries()) {
        const which = index === 0 ? 'data directory' : 'tablespace directory';
        this.#events.notice(`${which} "${directory}" not removed at user's request`);
      }
      return error;
    }
    try {
      await this.#target?.remove();
    } catch (leftover) {
      this.#events.warning(asConvoyError(leftover, 'target_io').message);
    }
    return error;
  }
}

function spaceNeeds({ directory, tablespaces }: DirectoryTargetSpec, list: FileList): SpaceNeed[] {
  const bytesIn = (oid: number | undefined): number =>
    list.files.reduce((sum, file) => (file.tablespace === oid ? sum + file.size : sum), 0);
  const inTablespaces = tablespaces.map(({ oid, location }) => ({
    directory: location,
    bytes: bytesIn(oid),
  }));
  return [{ directory, bytes: bytesIn(undefined) }, ...inTablespaces];
}

function sumOfSizes(list: FileList): number {
  return list.files.reduce((sum, file) => sum + file.size, 0);
}
