/*
 * A worker thread's state: the one connection that it keeps from task to task, opened with the first, opened anew
 * after it broke. Driven by workers/copy.ts.
 */
import { setMaxListeners } from 'node:events';
import { threadId } from 'node:worker_threads';
import { assertNever } from '../assert-never.js';
import { asConvoyError, ConvoyError } from '../errors.js';
import { openReader, type SourceSpec } from '../source/open-reader.js';
import type { FileReader } from '../source/source.js';
import { syncPaths } from '../target/directory-writer.js';
import { openTarget } from '../target/open-target.js';
import { RateLimit } from '../target/rate-limit.js';
import { copyTask } from './copy-task.js';
import type { CopyOutcome, CopySettings, CopyTaskMessage, WorkerAnswer, WorkerTask } from './messages.js';
import type { CopyTools } from './paced-file.js';
import { ProgressCounters } from '../progress-counters.js';

const NOTHING_COPIED = {
  kind: 'copied',
  files: [],
  parts: [],
  vanished: [],
  stretches: [],
  hasBadPages: false,
  warnings: [],
} as const;

const CANCELLED = {
  kind: 'failed',
  error: new ConvoyError('cancelled', 'the backup was cancelled').toPlain(),
} as const;

export class CopyWorker {
  #tools: CopyTools | undefined;
  #reader: FileReader | undefined;
  readonly #cancelled = new AbortController();

  constructor() {
    // each connection listens, and there may be one a task
    setMaxListeners(0, this.#cancelled.signal);
  }

  /** Drops the connection, at once; what runs ends as failed. */
  cancel(): void {
    this.#cancelled.abort();
    this.#reader?.destroy();
  }

  async run(task: WorkerTask): Promise<WorkerAnswer> {
    const begin = performance.now();
    const outcome = await this.#outcome(task);
    return { outcome, work: { worker: threadId, seconds: (performance.now() - begin) / 1000 } };
  }

  async #outcome(task: WorkerTask): Promise<CopyOutcome> {
    switch (task.kind) {
      case 'connect':
        return (await this.#connect(task.source)) ?? NOTHING_COPIED;
      case 'copy':
        return await this.#copy(task.settings, task.task);
      case 'sync':
        return this.#sync(task.paths);
      default:
        return assertNever(task);
    }
  }

  async #copy(settings: CopySettings, task: CopyTaskMessage): Promise<CopyOutcome> {
    const refused = await this.#connect(settings.source);
    const reader = this.#reader;
    if (refused !== undefined || reader === undefined) return refused ?? CANCELLED;
    const { startLsn, verifyPageChecksums } = settings;
    this.#tools ??= toolsOf(settings);
    const outcome = await copyTask(task, reader, { startLsn, verifyPageChecksums }, this.#tools);
    if (outcome.kind !== 'copied') {
      reader.destroy();
      this.#reader = undefined;
    }
    return outcome;
  }

  /** @returns why there is no connection */
  async #connect(source: SourceSpec): Promise<CopyOutcome | undefined> {
    try {
      this.#reader ??= await openReader(source, this.#cancelled.signal);
    } catch (error) {
      const reason = asConvoyError(error, 'connection_failed');
      if (reason.code === 'other_server') return failure(reason);
      // a server that is out of connections, or restarting a proxy, may have room a moment later
      return { kind: 'connection_lost', error: reason.toPlain() };
    }
    if (!this.#cancelled.signal.aborted) return undefined;
    this.#reader.destroy();
    return CANCELLED;
  }

  #sync(paths: readonly string[]): CopyOutcome {
    try {
      syncPaths(paths);
      return NOTHING_COPIED;
    } catch (error) {
      return failure(error);
    }
  }
}

function toolsOf({ target, algorithm, rate, progress }: CopySettings): CopyTools {
  return {
    target: openTarget(target),
    algorithm,
    rate: rate === undefined ? undefined : new RateLimit(rate.budget, rate.bytesPerSecond),
    progress: new ProgressCounters(progress),
  };
}

function failure(error: unknown): CopyOutcome {
  return { kind: 'failed', error: asConvoyError(error, 'worker_failed').toPlain() };
}
