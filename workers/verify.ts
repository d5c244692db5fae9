/* Entry point of the threads of `verify`: one task at a time. What is done with it stands in src/verify. */
import { workerData } from 'node:worker_threads';
import type { CheckOutcome, CheckTask } from '../src/verify/check-messages.js';
import { CheckWorker } from '../src/verify/check-worker.js';
import { noteThreadStarted, type ThreadStart } from '../src/thread-start.js';

const worker = new CheckWorker();

noteThreadStarted(workerData as ThreadStart);

export function run(task: CheckTask): Promise<CheckOutcome> {
  return worker.run(task);
}
