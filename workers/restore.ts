/* Entry point of the worker threads of a restore. It only unpacks; what is done with a task stands in src/restore. */
import type { RestoreOutcome, RestoreTask } from '../src/restore/messages.js';
import { runTask } from '../src/restore/run-task.js';

export function run(task: RestoreTask): Promise<RestoreOutcome> {
  return runTask(task);
}
