/*
 * Entry point of the coordinator's worker threads: each holds one connection and runs one task at a time.
 * It only unpacks; what is done with a task stands in src/copy.
 */
import { BroadcastChannel, workerData } from 'node:worker_threads';
import { CopyWorker } from '../src/copy/copy-worker.js';
import type { WorkerAnswer, WorkerStart, WorkerTask } from '../src/copy/messages.js';
import { noteThreadStarted } from '../src/thread-start.js';

const start = workerData as WorkerStart;
const worker = new CopyWorker();

const cancel = new BroadcastChannel(start.cancelChannel);
cancel.onmessage = () => worker.cancel();
cancel.unref();
noteThreadStarted(start);

export function run(task: WorkerTask): Promise<WorkerAnswer> {
  return worker.run(task);
}
