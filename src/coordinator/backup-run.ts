/*
 * A base backup, told from start to end; each step is one call. Whoever starts a backup owns its end: on every way out the
 * server leaves backup mode, the threads are gone, and a target that is not complete is removed. Called by backup.ts.
 */
import type { CopySettings } from '../copy/messages.js';
import type { CopyTools } from '../copy/paced-file.js';
import { canCombine } from '../copy/range-assembly.js';
import { ProgressCounters } from '../progress-counters.js';
import { asConvoyError, ConvoyError } from '../errors.js';
import { formatLsn } from '../lsn.js';
import { BACKUP_LABEL_PATH } from '../pgdata/backup-label.js';
import { formatSettings } from '../pgdata/recovery-settings.js';
import { planLimits, planTasks, slotCount, type CopyTask } from '../plan/plan.js';
import { openSource, type OpenedSource, type WalNeed } from '../source/open-source.js';
import type { FileList, StartedBackup, StoppedBackup } from '../source/source.js';
import { createRateBudget, RateLimit, type RateBudget } from '../target/rate-limit.js';
import { heldTaskBytes } from '../target/archive-writer.js';
import { refuseWithoutSyncfs } from '../target/sync-file-systems.js';
import type { TargetSpec } from '../target/target.js';
import { BackupAccount } from './backup-account.js';
import type { BackupEvents, BackupOptions, RecoveryConf } from './backup-options.js';
import type { BackupReport } from './backup-report.js';
import { BackupTarget } from './backup-target.js';
import { CopiedFiles } from './copied-files.js';
import { PhaseClock } from './phase-clock.js';
import { StopFiles } from './stop-files.js';
import { WalStream } from './wal-stream.js';
import type { WorkerPool } from './worker-pool.js';

/**
 * @param options whose target is new
 * @param pool its threads may still be starting; stopped, at the latest, by whoever has made it
 */
export async function runBackup(
  options: BackupOptions,
  events: BackupEvents,
  pool: WorkerPool,
  signal: AbortSignal,
): Promise<BackupReport> {
  const target = new BackupTarget(options.target, (message) => events.warning(message));
  if (options.sync && options.syncMethod === 'syncfs') await refuseWithoutSyncfs();
  const { askPassword, source: choice, jobs } = options;
  const clock = new PhaseClock((phase) => events.phaseStarted(phase));
  const opening = clock.time('open', () =>
    openSource(options.connection, {
      choice,
      jobs,
      wal: walNeed(options.wal),
      askPassword,
      onNotice: (message, severity) =>
        severity === 'NOTICE' ? events.notice(message) : events.warning(message),
      signal,
    }),
  );
  const opened = await opening.catch((error: unknown) => {
    throw signal.aborted ? asConvoyError(signal.reason, 'cancelled') : error;
  });
  if (opened.reason !== undefined) events.notice(opened.reason);
  const run = new BackupRun(options, events, opened, target, pool, clock);
  return await run.complete(signal);
}

/** pg_backup_stop on a standby closes no segment, and waits for the archive only where the standby itself archives. */
const ARCHIVED_BY_PRIMARY =
  'the last WAL that a backup of a standby needs is archived when the primary has switched to another segment: ' +
  'on a quiet one, run SELECT pg_switch_wal() there';

class BackupRun {
  readonly #options: BackupOptions;
  readonly #events: BackupEvents;
  readonly #opened: OpenedSource;
  readonly #target: BackupTarget;
  readonly #counters = new ProgressCounters();
  readonly #rateBudget: RateBudget = createRateBudget();
  readonly #pool: WorkerPool;
  readonly #clock: PhaseClock;
  #wal: WalStream | undefined;
  /** Set once, by whatever ends the backup early. */
  #failure: ConvoyError | undefined;

  constructor(
    options: BackupOptions,
    events: BackupEvents,
    opened: OpenedSource,
    target: BackupTarget,
    pool: WorkerPool,
    clock: PhaseClock,
  ) {
    this.#options = options;
    this.#events = events;
    this.#opened = opened;
    this.#target = target;
    this.#pool = pool;
    this.#clock = clock;
  }

  async complete(signal: AbortSignal): Promise<BackupReport> {
    const { source } = this.#opened;
    const abort = (): void => this.#fail(asConvoyError(signal.reason, 'cancelled'));
    void source.lost.then((reason) => this.#fail(reason));
    signal.addEventListener('abort', abort);
    if (signal.aborted) abort();
    try {
      const report = await this.#steps(signal);
      await this.#pool.stop();
      return report;
    } catch (error) {
      // what a step says once it was made to fail is not the cause
      throw await this.#cleanUp(this.#failure ?? asConvoyError(error, 'worker_failed'));
    } finally {
      signal.removeEventListener('abort', abort);
      this.#target.close();
    }
  }

  async #steps(signal: AbortSignal): Promise<BackupReport> {
    const clock = this.#clock;
    await this.#openWal(signal);
    const started = await clock.time('start', () => this.#start());
    this.#pool.connect(this.#opened.spec);
    const list = await clock.time('list', () => this.#opened.source.list());
    const tasks = this.#plan(list);
    const spec = await this.#prepareTarget(started, tasks, list);
    await this.#startWal(started);
    const account = new BackupAccount(started.tablespaces);
    await clock.time('copy', () => this.#copy(started, spec, tasks, list, account));
    const copiedBytes = this.#counters.read().bytes;
    const tools = this.#tools();
    const stopFiles = new StopFiles(tools);
    const stopped = await clock.time('stop', () => this.#stop(started, stopFiles));
    const written = await this.#writeStopFiles(tools, list, stopped, stopFiles);
    await clock.time('sync', () => this.#sync(list, written));
    await this.#finish(started, stopped);
    for (const file of stopFiles.manifestFiles) account.addFile(file);
    return this.#report(started, stopped, account, { copiedBytes, fetchedBytes: stopFiles.walBytes });
  }

  /** Before the backup starts: what keeps WAL from being streamed is told at once, and a slot holds it from then on. */
  async #openWal(signal: AbortSignal): Promise<void> {
    const { wal } = this.#options;
    if (typeof wal !== 'object') return;
    this.#wal = await WalStream.open(this.#opened, wal, this.#options, this.#events, signal);
    void this.#wal.failed.then((reason) => this.#fail(reason));
    if (this.#failure !== undefined) this.#wal.destroy();
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
    const { jobs, target, manifestChecksums = 'NONE' } = this.#options;
    const splitFiles = this.#opened.source.readsRanges && canCombine(manifestChecksums);
    const heldBytes = target.kind === 'archive' ? heldTaskBytes(target) : undefined;
    return planTasks(list.files, planLimits(sumOfSizes(list), jobs, { splitFiles, heldBytes }));
  }

  async #prepareTarget(
    { tablespaces }: StartedBackup,
    tasks: readonly CopyTask[],
    list: FileList,
  ): Promise<TargetSpec> {
    const { manifestChecksums, encodeManifestPaths, wal, recoveryConf } = this.#options;
    const { server } = this.#opened.source;
    this.#throwIfFailed();
    return await this.#target.prepare({
      server,
      tablespaces,
      list,
      slots: slotCount(tasks),
      includeWal: wal !== 'none',
      manifestChecksums,
      encodeManifestPaths,
      recoverySettings: recoveryConf && recoverySettingsOf(recoveryConf, server.major, wal),
    });
  }

  async #startWal(started: StartedBackup): Promise<void> {
    this.#throwIfFailed();
    if (this.#wal === undefined) return;
    const segmentBytes = this.#opened.source.server.walSegmentBytes;
    await this.#wal.start(started, { ...this.#target.openWalFiles(), segmentBytes });
  }

  async #copy(
    started: StartedBackup,
    spec: TargetSpec,
    tasks: CopyTask[],
    list: FileList,
    account: BackupAccount,
  ): Promise<void> {
    const { maxRateBytesPerSecond, verifyPageChecksums } = this.#options;
    this.#throwIfFailed();
    const rate =
      maxRateBytesPerSecond === undefined
        ? undefined
        : { budget: this.#rateBudget, bytesPerSecond: maxRateBytesPerSecond };
    const settings: CopySettings = {
      source: this.#opened.spec,
      target: spec,
      startLsn: started.startLsn,
      algorithm: this.#options.manifestChecksums ?? 'NONE',
      verifyPageChecksums,
      rate,
      progress: this.#counters.memory,
    };
    const totals = { bytes: sumOfSizes(list), files: list.files.length };
    const watcher = new CopiedFiles(tasks, this.#target, account, this.#events);
    this.#events.copyStarted(totals, () => this.#counters.read());
    try {
      await this.#pool.copyAll(settings, tasks, watcher);
    } finally {
      this.#events.copyEnded();
    }
  }

  async #stop(started: StartedBackup, files: StopFiles): Promise<StoppedBackup> {
    const { source } = this.#opened;
    const includeWal = this.#options.wal === 'fetch';
    this.#events.detail('waiting for the server to finish the base backup');
    if (started.fromStandby && this.#options.wal === 'none') this.#events.notice(ARCHIVED_BY_PRIMARY);
    // a backup that brings its WAL along does not need the archive
    const stopped = await source
      .stop({ includeWal, waitForArchive: this.#options.wal === 'none' }, files)
      .catch((error: unknown) => {
        files.abandon();
        throw error;
      });
    if (stopped.stopTimeline !== started.startTimeline) {
      throw new ConvoyError('server_error', 'the server switched to another timeline during the backup');
    }
    // from here on the server is not needed any more, and its loss no failure
    await source.close();
    this.#events.detail(`write-ahead log end point: ${formatLsn(stopped.stopLsn)}`);
    await this.#wal?.finish(stopped);
    return stopped;
  }

  /** pg_control comes last: a directory without it does not start. @returns paths of what was written */
  async #writeStopFiles(
    tools: CopyTools,
    list: FileList,
    { backupLabel }: StoppedBackup,
    files: StopFiles,
  ): Promise<string[]> {
    const { recoveryConf } = this.#options;
    this.#target.owner = files.owner;
    const standbyFiles = recoveryConf === undefined ? [] : this.#target.writeStandbyFiles(tools, list);
    this.#target.writeLabel(tools, backupLabel);
    files.writeControlFile(this.#opened.source.server.systemIdentifier);
    for (const file of files.manifestFiles) this.#target.addToManifest(file);
    await this.#target.endFiles();
    return [...standbyFiles, BACKUP_LABEL_PATH, ...files.paths, ...(this.#wal?.paths ?? [])];
  }

  async #sync(list: FileList, written: readonly string[]): Promise<void> {
    if (!this.#options.sync) return;
    this.#events.detail('syncing data to disk ...');
    if (this.#options.syncMethod === 'syncfs') {
      await this.#target.syncFileSystems();
      return;
    }
    const paths = [...list.files.map((file) => file.target), ...written];
    await this.#target.sync(paths, (absolute) => this.#pool.syncAll(absolute));
  }

  async #finish({ startLsn, startTimeline }: StartedBackup, { stopLsn }: StoppedBackup): Promise<void> {
    this.#throwIfFailed();
    await this.#target.finish({ timeline: startTimeline, startLsn, endLsn: stopLsn }, this.#options.sync);
    this.#throwIfFailed();
    this.#events.detail('base backup completed');
  }

  #report(
    { startLsn, startTimeline }: StartedBackup,
    { stopLsn }: StoppedBackup,
    account: BackupAccount,
    { copiedBytes, fetchedBytes }: { readonly copiedBytes: number; readonly fetchedBytes: number },
  ): BackupReport {
    const { version, systemIdentifier } = this.#opened.source.server;
    const copied = this.#counters.read();
    const streamed = this.#wal?.written ?? { files: 0, bytes: 0, walBytes: 0 };
    const phases = this.#clock.figures({ copy: copiedBytes, stop: copied.bytes - copiedBytes });
    return {
      source: this.#opened.spec.kind,
      serverVersion: version,
      systemIdentifier,
      startLsn,
      stopLsn,
      timeline: startTimeline,
      copied: { files: copied.files + streamed.files, bytes: copied.bytes + streamed.bytes },
      walBytes: fetchedBytes + streamed.walBytes,
      phases,
      ...account.figures,
    };
  }

  /** For the files that the coordinator writes itself. */
  #tools(): CopyTools {
    const rate = this.#options.maxRateBytesPerSecond;
    return {
      target: this.#target.files,
      algorithm: this.#options.manifestChecksums ?? 'NONE',
      rate: rate === undefined ? undefined : new RateLimit(this.#rateBudget, rate),
      progress: this.#counters,
    };
  }

  /** Makes every step that runs fail at once: the connections are gone. */
  #fail(reason: ConvoyError): void {
    if (this.#failure !== undefined) return;
    this.#failure = reason;
    this.#opened.source.destroy();
    this.#wal?.destroy();
    void this.#pool.stop();
    // whoever reads from standard output may have stopped
    this.#target.close();
  }

  #throwIfFailed(): void {
    if (this.#failure !== undefined) throw this.#failure;
  }

  /** @returns the error to report */
  async #cleanUp(error: ConvoyError): Promise<ConvoyError> {
    this.#opened.source.destroy();
    this.#wal?.destroy();
    await this.#pool.stop();
    if (this.#options.keepOnFailure) {
      for (const { role, directory } of this.#target.directories) {
        this.#events.notice(`${role} directory "${directory}" not removed at user's request`);
      }
      return error;
    }
    try {
      await this.#target.remove();
    } catch (leftover) {
      this.#events.warning(asConvoyError(leftover, 'target_io').message);
    }
    return error;
  }
}

/** After GenerateRecoveryConfig: a slot that stays is for the standby to go on with. */
function recoverySettingsOf(
  { primaryConninfo }: RecoveryConf,
  serverMajor: number,
  wal: BackupOptions['wal'],
): string {
  const slot = typeof wal === 'object' && wal.slot.kind === 'named' ? wal.slot.name : undefined;
  return formatSettings([
    { name: 'primary_conninfo', value: primaryConninfo(serverMajor) },
    ...(slot === undefined ? [] : [{ name: 'primary_slot_name', value: slot }]),
  ]);
}

/** What the server must allow for the WAL to come along. */
function walNeed(wal: BackupOptions['wal']): WalNeed {
  if (typeof wal !== 'object') return wal;
  const { slot } = wal;
  const isNew = slot.kind === 'temporary' || (slot.kind === 'named' && slot.create);
  return isNew ? 'stream_with_new_slot' : 'stream';
}

function sumOfSizes(list: FileList): number {
  return list.files.reduce((sum, file) => sum + file.size, 0);
}
