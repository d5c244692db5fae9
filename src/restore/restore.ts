/*
 * A restore, told from start to end; each step is one call. Called by the `restore` command and the public API.
 * A backup becomes a data directory that is ready to start: tablespaces linked, WAL in its place, recovery configured;
 * or, where anything is wrong with it, nothing at all.
 */
import { statSync } from 'node:fs';
import { asConvoyError, ConvoyError } from '../errors.js';
import { MANIFEST_PATH, type BackupManifest } from '../manifest/manifest.js';
import { CONTROL_FILE_PATH } from '../pgdata/control-file.js';
import { AUTO_CONF_PATH } from '../pgdata/recovery-settings.js';
import { TABLESPACE_MAP_PATH } from '../pgdata/tablespace-map.js';
import { ProgressCounters } from '../progress-counters.js';
import { refuseUnlessEmpty } from '../target/directory-target.js';
import { planCopies } from './copy-plan.js';
import { extractArchive, type ExtractedArchive } from './extract-archive.js';
import { algorithmOf, canCombine, ManifestCheck } from './manifest-check.js';
import type { FileToRestore, RestoredFile, RestoreSettings, RestoreTask } from './messages.js';
import { openBackup, readManifestOf, type OpenedBackup } from './opened-backup.js';
import type { RestoreEvents, RestoreOptions, RestoreReport } from './restore-options.js';
import { RestorePool } from './restore-pool.js';
import { RestoreTarget } from './restore-target.js';
import { checkRestoredWal, isWalSegmentPath } from './restored-wal.js';

const SYNC_FILES_PER_TASK = 500;

/**
 * Restores a backup.
 *
 * @param signal aborts it; the reason is what the returned promise rejects with
 * @throws ConvoyError the first thing that went wrong, or `file_damaged` after all problems were told; what was made
 * is removed then, unless `keepOnFailure`
 */
export async function restore(
  options: RestoreOptions,
  events: RestoreEvents,
  signal: AbortSignal,
): Promise<RestoreReport> {
  signal.throwIfAborted();
  refuseUnlessEmpty(options.directory);
  if (options.walDirectory !== undefined) refuseUnlessEmpty(options.walDirectory);
  // the threads start while the backup is looked at
  const pool = new RestorePool(options.jobs);
  try {
    const opened = await openBackup(options);
    const target = new RestoreTarget(options, opened.content, (message) => events.warning(message));
    return await new RestoreRun(options, events, { opened, target, pool }).complete(signal);
  } finally {
    await pool.stop();
  }
}

class RestoreRun {
  readonly #options: RestoreOptions;
  readonly #events: RestoreEvents;
  readonly #opened: OpenedBackup;
  readonly #target: RestoreTarget;
  readonly #pool: RestorePool;
  readonly #counters = new ProgressCounters();
  readonly #restored: RestoredFile[] = [];
  /** Relative to the data directory. */
  readonly #directories: string[] = [];
  /** Set once, by whatever ends the restore early. */
  #failure: ConvoyError | undefined;

  constructor(
    options: RestoreOptions,
    events: RestoreEvents,
    { opened, target, pool }: { opened: OpenedBackup; target: RestoreTarget; pool: RestorePool },
  ) {
    this.#options = options;
    this.#events = events;
    this.#opened = opened;
    this.#target = target;
    this.#pool = pool;
  }

  async complete(signal: AbortSignal): Promise<RestoreReport> {
    const abort = (): void => this.#fail(asConvoyError(signal.reason, 'cancelled'));
    signal.addEventListener('abort', abort);
    if (signal.aborted) abort();
    try {
      return await this.#steps();
    } catch (error) {
      // what a step says once it was made to fail is not the cause
      throw await this.#cleanUp(this.#failure ?? asConvoyError(error, 'worker_failed'));
    } finally {
      signal.removeEventListener('abort', abort);
    }
  }

  async #steps(): Promise<RestoreReport> {
    this.#prepareTarget();
    await this.#copy();
    const manifest = this.#manifest();
    if (manifest !== undefined) await this.#verify(manifest);
    this.#configure(manifest);
    await this.#sync();
    this.#throwIfFailed();
    this.#events.detail('restore completed');
    const directories = this.#target.directories.map(({ directory }) => directory);
    return { restored: this.#counters.read(), directories };
  }

  #prepareTarget(): void {
    this.#throwIfFailed();
    this.#target.prepare(this.#opened.content, this.#expectedFiles());
  }

  async #copy(): Promise<void> {
    const { content, stream } = this.#opened;
    const expected = this.#expectedFiles();
    const bytes = expected.reduce((sum, { size }) => sum + size, 0);
    const settings = this.#settings(this.#target.spec);
    // a directory without pg_control does not start
    const control = content.files.filter(({ path }) => path === CONTROL_FILE_PATH);
    const others = content.files.filter(({ path }) => path !== CONTROL_FILE_PATH);
    this.#events.copyStarted({ bytes, files: expected.length }, () => this.#counters.read());
    try {
      if (stream !== undefined) this.#note(await extractArchive(stream.archive, settings, stream.bytes));
      const archives = content.archives.map((archive): RestoreTask => ({
        kind: 'extract',
        settings,
        archive,
      }));
      await this.#runAll([...archives, ...this.#copyTasks(others, settings)]);
      await this.#runAll(this.#copyTasks(control, settings));
    } finally {
      this.#events.copyEnded();
    }
  }

  /** The manifest that the files are held against, which may have come with them. */
  #manifest(): BackupManifest | undefined {
    if (this.#options.verify === 'nothing') return undefined;
    return this.#opened.manifest ?? readManifestOf(this.#target.absolute(MANIFEST_PATH));
  }

  async #verify(manifest: BackupManifest): Promise<void> {
    this.#throwIfFailed();
    const check = new ManifestCheck(manifest, this.#options.verify === 'checksums', (message) =>
      this.#events.problem(message),
    );
    for (const file of this.#restored) check.add(file);
    check.finish();
    await this.#readAgain(check);
    const walProblems = this.#hasWal
      ? await checkRestoredWal(manifest, this.#target.spec.directory, this.#pool, this.#hasOtherWal)
      : [];
    for (const problem of walProblems) this.#events.problem(problem);
    const problems = check.problems + walProblems.length;
    if (problems === 0) {
      this.#events.detail('backup successfully verified');
      return;
    }
    const count = problems === 1 ? '1 problem' : `${problems} problems`;
    throw new ConvoyError('file_damaged', `the backup is not as its manifest says: ${count}`);
  }

  /** Files whose checksum is of another kind than the one that was taken while they were written. */
  async #readAgain(check: ManifestCheck): Promise<void> {
    const files = check.toReadAgain;
    for (const algorithm of new Set(files.map((file) => file.algorithm))) {
      const settings = { ...this.#settings({ kind: 'blackhole' }), algorithm };
      const again = files
        .filter((file) => file.algorithm === algorithm)
        .map((file) => ({ ...file, mode: 0, origin: { file: this.#target.absolute(file.path), offset: 0 } }));
      const tasks = planCopies(again, this.#options.jobs, false).map((group): RestoreTask => ({
        kind: 'copy',
        settings,
        files: group,
      }));
      await this.#pool.runAll(tasks, (outcome) => {
        if (outcome.kind === 'restored') for (const file of outcome.files) check.addReadAgain(file);
      });
    }
  }

  get #hasWal(): boolean {
    return this.#restored.some(({ path }) => isWalSegmentPath(path));
  }

  /** The server will fetch WAL. */
  get #hasOtherWal(): boolean {
    const { recovery } = this.#options;
    return recovery?.restoreCommand !== undefined || recovery?.primaryConninfo !== undefined;
  }

  #configure(manifest: BackupManifest | undefined): void {
    this.#throwIfFailed();
    const paths = new Set(this.#restored.map(({ path }) => path));
    if (this.#opened.content.rootMode === undefined) this.#target.openToGroup();
    this.#target.removeFile(TABLESPACE_MAP_PATH);
    this.#target.writeRecovery(paths.has(AUTO_CONF_PATH));
    if (manifest?.files.has(TABLESPACE_MAP_PATH) === true) {
      const { mode } = statSync(this.#target.absolute(MANIFEST_PATH));
      this.#target.writeManifest(manifest, mode & 0o777);
    }
    if (this.#hasWal || this.#hasOtherWal) return;
    this.#events.warning('the backup holds no WAL: the server will need a restore_command to start');
  }

  async #sync(): Promise<void> {
    if (!this.#options.sync) return;
    this.#events.detail('syncing data to disk ...');
    const files = [...new Set(this.#restored.map(({ path }) => path))];
    const tasks: RestoreTask[] = [];
    for (let at = 0; at < files.length; at += SYNC_FILES_PER_TASK) {
      const paths = files.slice(at, at + SYNC_FILES_PER_TASK).map((path) => this.#target.absolute(path));
      tasks.push({ kind: 'sync', paths });
    }
    await this.#pool.runAll(tasks, () => {});
    this.#target.syncDirectories(this.#directories);
  }

  #settings(target: RestoreSettings['target']): RestoreSettings {
    const { manifest } = this.#opened;
    // a manifest that comes later is most likely pg_basebackup's default
    const algorithm = manifest === undefined ? 'CRC32C' : algorithmOf(manifest);
    return {
      target,
      algorithm: this.#options.verify === 'checksums' ? algorithm : 'NONE',
      progress: target.kind === 'blackhole' ? new ProgressCounters().memory : this.#counters.memory,
      cancelled: this.#pool.cancelled,
    };
  }

  #copyTasks(files: readonly FileToRestore[], settings: RestoreSettings): RestoreTask[] {
    return planCopies(files, this.#options.jobs, canCombine(settings.algorithm)).map(
      (group): RestoreTask => ({ kind: 'copy', settings, files: group }),
    );
  }

  async #runAll(tasks: readonly RestoreTask[]): Promise<void> {
    this.#throwIfFailed();
    await this.#pool.runAll(tasks, (outcome) => {
      if (outcome.kind === 'restored') this.#note(outcome);
    });
  }

  #note({ files, directories }: Pick<ExtractedArchive, 'files' | 'directories'>): void {
    for (const file of files) this.#restored.push(file);
    this.#directories.push(...directories);
  }

  /** What is to come, as far as anything tells. */
  #expectedFiles(): readonly { readonly path: string; readonly size: number }[] {
    const { content, manifest } = this.#opened;
    return content.archives.length === 0 || manifest === undefined
      ? content.files
      : [...manifest.files.values()];
  }

  /** Makes every step that runs fail at once. */
  #fail(reason: ConvoyError): void {
    if (this.#failure !== undefined) return;
    this.#failure = reason;
    const { backup } = this.#options;
    if (backup.kind === 'stream') backup.bytes.destroy(reason);
    void this.#pool.stop();
  }

  #throwIfFailed(): void {
    if (this.#failure !== undefined) throw this.#failure;
  }

  /** @returns the error to report */
  async #cleanUp(error: ConvoyError): Promise<ConvoyError> {
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
