/*
 * Entry point of the coordinator's worker threads: each holds one connection and runs one task at a time.
 * It only unpacks; what is done with a task stands in src/copy.
 */
import { BroadcastChannel, workerData } from 'node:worker_threads';
import { CopyWorker } from '../src/copy/copy-worker.js';
import type { CopyOutcome, CopySettings, WorkerTask } from '../src/copy/messages.js';

const settings = workerData as CopySettings;
const worker = new CopyWorker(settings);

const cancel = new BroadcastChannel(settings.cancelChannel);
cancel.onmessage = () => worker.cancel();
cancel.unref();

export function run(task: WorkerTask): Promise<CopyOutcome> {
  return worker.run(task);
}
