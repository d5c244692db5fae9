/*
 * The threads of one verification. The main thread is one of them: it can begin at once, while starting another takes
 * as long as reading a few hundred megabytes. Whatever is given to them waits in one queue.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { ConvoyError } from '../errors.js';
import { ThreadPool } from '../thread-pool.js';
import { ThreadStarts, type ThreadStart } from '../thread-start.js';
import type { CheckOutcome, CheckTask } from './check-messages.js';
import { CheckWorker } from './check-worker.js';

/** A thread has the next task already when it ends one: the main thread may be busy with its own. */
const TASKS_PER_THREAD = 2;

interface Waiting {
  readonly task: CheckTask;
  readonly resolve: (outcome: CheckOutcome) => void;
  readonly reject: (error: unknown) => void;
}

type Runner = (task: CheckTask) => Promise<CheckOutcome>;

export class CheckPool implements AsyncDisposable {
  readonly #pool: ThreadPool<CheckTask, CheckOutcome> | undefined;
  readonly #starts: ThreadStarts | undefined;
  readonly #waiting: Waiting[] = [];
  readonly #idle: Runner[] = [];
  #next = 0;

  /** Starts the threads: they load while the manifest is read. @param jobs threads, the main one included */
  constructor(jobs: number) {
    const worker = new CheckWorker();
    if (jobs > 1) {
      this.#starts = new ThreadStarts(jobs - 1);
      const pool = startThreads(jobs - 1, this.#starts);
      this.#pool = pool;
      const run = (task: CheckTask): Promise<CheckOutcome> => pool.run(task);
      for (let slot = 0; slot < (jobs - 1) * TASKS_PER_THREAD; slot += 1) this.#idle.push(run);
    }
    this.#idle.push(async (task) => {
      // the others are given theirs first
      await nextTurn();
      return await worker.run(task);
    });
  }

  /** @throws ConvoyError where the thread failed; what is wrong with the backup is part of the outcome */
  async run<Kind extends CheckTask['kind']>(
    task: Extract<CheckTask, { kind: Kind }>,
  ): Promise<Extract<CheckOutcome, { kind: Kind | 'unreadable' }>> {
    const outcome = await new Promise<CheckOutcome>((resolve, reject) => {
      this.#waiting.push({ task, resolve, reject });
      this.#dispatch();
    });
    if (outcome.kind === 'failed') throw ConvoyError.fromPlain(outcome.error);
    return outcome as Extract<CheckOutcome, { kind: Kind | 'unreadable' }>;
  }

  /** Ends the threads as soon as they have started: they only read. What waits is not done any more. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#idle.length = 0;
    this.#next = this.#waiting.length;
    await this.#starts?.settled();
    await this.#pool?.destroy();
  }

  #dispatch(): void {
    while (this.#next < this.#waiting.length) {
      const runner = this.#idle.pop();
      if (runner === undefined) return;
      const waiting = this.#waiting[this.#next];
      this.#next += 1;
      if (waiting !== undefined) void this.#runOne(runner, waiting);
    }
  }

  async #runOne(runner: Runner, { task, resolve, reject }: Waiting): Promise<void> {
    try {
      resolve(await runner(task));
    } catch (error) {
      reject(error);
    }
    this.#idle.push(runner);
    this.#dispatch();
  }
}

function startThreads(count: number, starts: ThreadStarts): ThreadPool<CheckTask, CheckOutcome> {
  const pool = new ThreadPool<CheckTask, CheckOutcome>({
    filename: import.meta.resolve('#program/verify.js'),
    name: 'run',
    minThreads: count,
    maxThreads: count,
    concurrentTasksPerWorker: TASKS_PER_THREAD,
    workerData: { startedThreads: starts.startedThreads } satisfies ThreadStart,
  });
  // a thread that broke while it had nothing to do: the next task says so
  pool.on('error', () => starts.fail());
  return pool;
}
