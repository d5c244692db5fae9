/* Entry point of the worker threads of a restore. It only unpacks; what is done with a task stands in src/restore. */
import { workerData } from 'node:worker_threads';
import type { RestoreOutcome, RestoreTask } from '../src/restore/messages.js';
import { runTask } from '../src/restore/run-task.js';
import { noteThreadStarted, type ThreadStart } from '../src/thread-start.js';

noteThreadStarted(workerData as ThreadStart);

export function run(task: RestoreTask): Promise<RestoreOutcome> {
  return runTask(task);
}
