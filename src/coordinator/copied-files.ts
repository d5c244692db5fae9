/*
 * What becomes of a task that has ended: whole files go into the manifest and the account, parts are put together, what
 * vanished leaves the target. Told by the pool, on behalf of backup-run.ts.
 */
import type { TaskWork } from '../copy/messages.js';
import { RangeAssembly, type VanishedFile } from '../copy/range-assembly.js';
import type { PlainError } from '../errors.js';
import type { ManifestFile } from '../manifest/manifest.js';
import type { CopyTask } from '../plan/plan.js';
import type { BackupAccount } from './backup-account.js';
import type { BackupEvents } from './backup-options.js';
import type { BackupTarget } from './backup-target.js';
import type { CopiedOutcome, CopyWatcher } from './worker-pool.js';

export class CopiedFiles implements CopyWatcher {
  readonly #target: BackupTarget;
  readonly #account: BackupAccount;
  readonly #events: BackupEvents;
  readonly #ranges: RangeAssembly;

  constructor(
    tasks: readonly CopyTask[],
    target: BackupTarget,
    account: BackupAccount,
    events: BackupEvents,
  ) {
    this.#target = target;
    this.#account = account;
    this.#events = events;
    this.#ranges = new RangeAssembly(tasks);
  }

  copied(outcome: CopiedOutcome, task: CopyTask, work: TaskWork): void {
    const { files, parts, vanished, stretches, warnings } = outcome;
    this.#account.addTask(outcome, work, task.files[0]?.tablespace);
    this.#target.noteStretches(stretches);
    for (const warning of warnings) this.#events.warning(warning);
    this.#noteFiles(files);
    const settled = [
      ...parts.map((part) => this.#ranges.addPart(part)),
      ...vanished.map((path) => this.#ranges.addVanished(path)),
    ];
    for (const whole of settled) {
      if (whole?.kind === 'complete') this.#noteFile(whole.file);
      if (whole?.kind === 'vanished') this.#noteVanished(whole);
    }
    for (const path of vanished.filter((name) => !this.#ranges.wasCut(name))) {
      const index = task.files.findIndex((file) => file.target === path);
      // an earlier try of the task, whose connection broke, may have begun it
      this.#noteVanished({ path, slot: task.slot + index, mtime: task.files[index]?.mtime ?? 0 });
    }
  }

  retried({ message }: PlainError, work: TaskWork): void {
    this.#account.addRetry(work);
    this.#events.detail(`repeating a task: ${message}`);
  }

  /** Apart from the rest, which is rare, for V8's sake: together they were compiled four times, a tenth of a second. */
  #noteFiles(files: readonly ManifestFile[]): void {
    for (const file of files) this.#noteFile(file);
  }

  #noteFile(file: ManifestFile): void {
    this.#target.addToManifest(file);
    this.#account.addFile(file);
  }

  #noteVanished(file: VanishedFile): void {
    const kept = this.#target.settleVanished(file);
    if (kept === undefined) this.#account.vanishedFiles += 1;
    else this.#noteFile(kept);
  }
}
