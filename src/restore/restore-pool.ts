/*
 * The worker threads of one restore: p-queue decides what runs next and stops at the first failure, piscina runs it on
 * threads. Threads are asked to end through shared memory, and terminated only after that.
 */
import { setMaxListeners } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import PQueue from 'p-queue';
import { ThreadPool } from '../thread-pool.js';
import { ThreadStarts, type ThreadStart } from '../thread-start.js';
import { asConvoyError, ConvoyError } from '../errors.js';
import type { RestoreOutcome, RestoreTask } from './messages.js';

/** How long threads may take to end what they do when asked to; a file that is being synced takes its time. */
const CANCEL_LIMIT_MS = 1000;

export type DoneOutcome = Exclude<RestoreOutcome, { kind: 'failed' }>;

export class RestorePool {
  /** An Int32 that is not zero once everything is to end; part of every task's settings. */
  readonly cancelled = new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT);
  readonly #pool: ThreadPool<RestoreTask, RestoreOutcome>;
  readonly #queue: PQueue;
  readonly #stopped = new AbortController();
  /** Calls that the threads have not answered yet. */
  readonly #running = new Set<Promise<RestoreOutcome>>();
  readonly #starts: ThreadStarts;
  #stopping: Promise<void> | undefined;

  constructor(jobs: number) {
    // each job that waits listens
    setMaxListeners(0, this.#stopped.signal);
    this.#queue = new PQueue({ concurrency: jobs });
    this.#starts = new ThreadStarts(jobs);
    const { startedThreads } = this.#starts;
    this.#pool = new ThreadPool({
      filename: import.meta.resolve('#program/restore.js'),
      name: 'run',
      minThreads: jobs,
      maxThreads: jobs,
      atomics: 'disabled',
      workerData: { startedThreads } satisfies ThreadStart,
    });
    this.#pool.on('error', (error) => {
      this.#starts.fail();
      this.#stopped.abort(asConvoyError(error, 'worker_failed'));
    });
  }

  /**
   * Runs all, in this order.
   *
   * @param onDone is told which of the tasks it was
   * @throws ConvoyError the first failure; what still waits is dropped
   */
  async runAll(
    tasks: readonly RestoreTask[],
    onDone: (outcome: DoneOutcome, index: number) => void,
  ): Promise<void> {
    const { signal } = this.#stopped;
    for (const [index, task] of tasks.entries()) {
      const job = (): Promise<void> => this.#run(task, (outcome) => onDone(outcome, index));
      // a failure is reported by onError; without the signal a dropped job would never settle
      this.#queue.add(() => this.#orDropTheRest(job()), { signal }).catch(() => {});
    }
    try {
      await Promise.race([this.#queue.onError(), this.#queue.onIdle()]);
      signal.throwIfAborted();
    } catch (error) {
      throw asConvoyError(error, signal.aborted ? 'cancelled' : 'worker_failed');
    }
  }

  /** Ends the threads, whatever they do. May be called again. */
  stop(): Promise<void> {
    this.#stopping ??= this.#stop();
    return this.#stopping;
  }

  async #stop(): Promise<void> {
    this.#stopped.abort();
    Atomics.store(new Int32Array(this.cancelled), 0, 1);
    const settled = Promise.allSettled(this.#running);
    await Promise.race([settled, delay(CANCEL_LIMIT_MS, undefined, { ref: false })]);
    await this.#starts.settled();
    await this.#pool.destroy();
  }

  async #run(task: RestoreTask, onDone: (outcome: DoneOutcome) => void): Promise<void> {
    this.#stopped.signal.throwIfAborted();
    const answer = this.#pool.run(task);
    this.#running.add(answer);
    const outcome = await answer.finally(() => this.#running.delete(answer));
    if (outcome.kind === 'failed') throw ConvoyError.fromPlain(outcome.error);
    onDone(outcome);
  }

  /** What still waits is dropped before the queue can begin it. */
  async #orDropTheRest(job: Promise<void>): Promise<void> {
    try {
      await job;
    } catch (error) {
      this.#queue.clear();
      throw error;
    }
  }
}
