/*
 * The worker threads of one backup: p-queue decides what runs next and stops at the first failure, piscina runs it
 * on threads. Threads are asked to end over a broadcast channel; they are terminated only after that, since a
 * terminated thread runs no cleanup.
 */
import { randomUUID } from 'node:crypto';
import { setMaxListeners } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { BroadcastChannel } from 'node:worker_threads';
import PQueue from 'p-queue';
import { assertNever } from '../assert-never.js';
import type {
  CopyOutcome,
  CopySettings,
  TaskWork,
  WorkerAnswer,
  WorkerStart,
  WorkerTask,
} from '../copy/messages.js';
import { packTask, unpackAnswer, type PackedAnswer, type PackedTask } from '../copy/packed-messages.js';
import { ThreadPool } from '../thread-pool.js';
import { ThreadStarts } from '../thread-start.js';
import { asConvoyError, ConvoyError, type PlainError } from '../errors.js';
import type { CopyTask } from '../plan/plan.js';
import type { SourceSpec } from '../source/open-reader.js';

/**
 * A task whose connection broke is tried again on a new one: at once, then after a moment that doubles, since a server that
 * is out of connections or a proxy that restarts needs one.
 */
const FIRST_RETRY_DELAY_MS = 500;
const MAX_RETRY_DELAY_MS = 10_000;
const SYNC_FILES_PER_TASK = 500;

/** How long threads may take to end what they do when asked to; a file that is being synced takes its time. */
export const CANCEL_LIMIT_MS = 1000;

export type CopiedOutcome = Extract<CopyOutcome, { kind: 'copied' }>;

interface CopiedAnswer extends WorkerAnswer {
  readonly outcome: CopiedOutcome;
}

/** Is told how the tasks go. */
export interface CopyWatcher {
  copied(outcome: CopiedOutcome, task: CopyTask, work: TaskWork): void;
  /** The connection broke; the task will be repeated. */
  retried(error: PlainError, work: TaskWork): void;
}

export class WorkerPool {
  readonly #pool: ThreadPool<PackedTask, PackedAnswer>;
  readonly #queue: PQueue;
  readonly #cancelChannel: BroadcastChannel;
  readonly #stopped = new AbortController();
  readonly #maxRetries: number;
  /** Calls that the threads have not answered yet. */
  readonly #running = new Set<Promise<PackedAnswer>>();
  readonly #starts: ThreadStarts;
  #stopping: Promise<void> | undefined;

  /**
   * Starts the threads; they are ready when the backup has started on the server.
   *
   * @param maxRetries how often one task may be repeated
   */
  constructor(jobs: number, maxRetries: number) {
    this.#maxRetries = maxRetries;
    // each job that waits listens
    setMaxListeners(0, this.#stopped.signal);
    const cancelChannel = `pgconvoy-${randomUUID()}`;
    this.#cancelChannel = new BroadcastChannel(cancelChannel);
    this.#cancelChannel.unref();
    this.#queue = new PQueue({ concurrency: jobs });
    this.#starts = new ThreadStarts(jobs);
    const { startedThreads } = this.#starts;
    this.#pool = new ThreadPool({
      filename: import.meta.resolve('#program/copy.js'),
      name: 'run',
      minThreads: jobs,
      maxThreads: jobs,
      // the default parks a thread between tasks, and with it the connection that it holds
      atomics: 'disabled',
      workerData: { cancelChannel, startedThreads } satisfies WorkerStart,
    });
    // a thread that broke while it had nothing to do; and, once stopped, an answer that came too late
    this.#pool.on('error', (error) => {
      this.#starts.fail();
      this.#stopped.abort(asConvoyError(error, 'worker_failed'));
    });
  }

  /** Lets the threads connect while there is nothing to copy yet. */
  connect(source: SourceSpec): void {
    for (let thread = 0; thread < this.#pool.maxThreads; thread += 1) {
      // where that fails, the first copy tries again and says so
      this.#run({ kind: 'connect', source }).catch(() => {});
    }
  }

  /** Copies all, largest task first. @throws ConvoyError the first failure; what still waits is dropped */
  async copyAll(settings: CopySettings, tasks: readonly CopyTask[], watcher: CopyWatcher): Promise<void> {
    await this.#all(
      tasks,
      (task) => this.#copy(settings, task, watcher),
      ({ outcome, work }, task) => watcher.copied(outcome, task, work),
    );
  }

  /** fsyncs files. @throws ConvoyError */
  async syncAll(paths: readonly string[]): Promise<void> {
    const batches: string[][] = [];
    for (let at = 0; at < paths.length; at += SYNC_FILES_PER_TASK) {
      batches.push(paths.slice(at, at + SYNC_FILES_PER_TASK));
    }
    await this.#all(
      batches,
      (batch) => this.#run({ kind: 'sync', paths: batch }),
      () => {},
    );
  }

  /** Ends the threads, whatever they do; their connections are closed. May be called again. */
  stop(): Promise<void> {
    this.#stopping ??= this.#stop();
    return this.#stopping;
  }

  async #stop(): Promise<void> {
    this.#stopped.abort();
    this.#cancelChannel.postMessage('cancel');
    const settled = Promise.allSettled(this.#running);
    await Promise.race([settled, delay(CANCEL_LIMIT_MS, undefined, { ref: false })]);
    this.#cancelChannel.close();
    await this.#starts.settled();
    await this.#pool.destroy();
  }

  /** @param take is given what an item has brought, once its thread has the next one */
  async #all<Item, Result>(
    items: readonly Item[],
    work: (item: Item) => Promise<Result>,
    take: (result: Result, item: Item) => void,
  ): Promise<void> {
    const { signal } = this.#stopped;
    const taken = items.map(async (item) => {
      // without the signal a dropped job would never settle
      take(await this.#queue.add(() => this.#orDropTheRest(work(item)), { signal }), item);
    });
    try {
      await Promise.race([this.#queue.onError(), Promise.all(taken)]);
      signal.throwIfAborted();
    } catch (error) {
      this.#queue.clear();
      throw asConvoyError(error, signal.aborted ? 'cancelled' : 'worker_failed');
    }
  }

  /** What still waits is dropped before the queue can begin it. */
  async #orDropTheRest<Result>(job: Promise<Result>): Promise<Result> {
    try {
      return await job;
    } catch (error) {
      this.#queue.clear();
      throw error;
    }
  }

  async #copy(settings: CopySettings, task: CopyTask, watcher: CopyWatcher): Promise<CopiedAnswer> {
    const message = {
      kind: 'copy',
      settings,
      task: { files: task.files, slot: task.slot, turn: task.turn },
    } as const;
    for (let retry = 0; ; retry += 1) {
      const { outcome, work } = await this.#run(message, retry < this.#maxRetries);
      if (outcome.kind === 'copied') return { outcome, work };
      watcher.retried(outcome.error, work);
      await delay(retryDelayMs(retry), undefined, { signal: this.#stopped.signal });
    }
  }

  async #run(task: WorkerTask, mayRetry = false): Promise<WorkerAnswer> {
    this.#stopped.signal.throwIfAborted();
    const answer = this.#pool.run(packTask(task));
    this.#running.add(answer);
    const answered = unpackAnswer(await answer.finally(() => this.#running.delete(answer)));
    const { outcome } = answered;
    switch (outcome.kind) {
      case 'copied':
        return answered;
      case 'connection_lost':
        if (mayRetry && !this.#stopped.signal.aborted) return answered;
        throw ConvoyError.fromPlain(outcome.error);
      case 'failed':
        throw ConvoyError.fromPlain(outcome.error);
      default:
        return assertNever(outcome);
    }
  }
}

/** @param retry counted from 0 */
export function retryDelayMs(retry: number): number {
  return retry === 0 ? 0 : Math.min(MAX_RETRY_DELAY_MS, FIRST_RETRY_DELAY_MS * 2 ** (retry - 1));
}
