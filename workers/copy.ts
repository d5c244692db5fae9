/*
 * Entry point of the coordinator's worker threads: each holds one connection and runs one task at a time.
 * It only unpacks; what is done with a task stands in src/copy.
 */
import { BroadcastChannel, workerData } from 'node:worker_threads';
import { CopyWorker } from '../src/copy/copy-worker.js';
import type { WorkerStart } from '../src/copy/messages.js';
import { packAnswer, unpackTask, type PackedAnswer, type PackedTask } from '../src/copy/packed-messages.js';
import { noteThreadStarted } from '../src/thread-start.js';

const start = workerData as WorkerStart;
const worker = new CopyWorker();

const cancel = new BroadcastChannel(start.cancelChannel);
cancel.onmessage = () => worker.cancel();
cancel.unref();
noteThreadStarted(start);

export async function run(task: PackedTask): Promise<PackedAnswer> {
  return packAnswer(await worker.run(unpackTask(task)));
}
