/* Entry point of the threads of `verify`: one task at a time. What is done with it stands in src/verify. */
import type { CheckOutcome, CheckTask } from '../src/verify/check-messages.js';
import { CheckWorker } from '../src/verify/check-worker.js';

const worker = new CheckWorker();

export function run(task: CheckTask): Promise<CheckOutcome> {
  return worker.run(task);
}
