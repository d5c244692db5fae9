/*
 * A thread of `verify`: takes tasks apart and hands them on. What pages, WAL and compressed archives need is loaded
 * when the first task needs it: a thread that only reads files starts the sooner. Driven by workers/verify.ts.
 */
import { assertNever } from '../assert-never.js';
import { asConvoyError, ConvoyError } from '../errors.js';
import { checkFiles, checkRange, type CheckTools } from './check-files.js';
import type { CheckOutcome, CheckSettings, CheckTask } from './check-messages.js';
import { ProgressCounters } from '../progress-counters.js';

/** Measured: what is read stays in the processor's cache until it has been checked. */
const BUFFER_BYTES = 256 * 1024;

export class CheckWorker {
  #tools: CheckTools | undefined;

  async run(task: CheckTask): Promise<CheckOutcome> {
    try {
      return await this.#check(task);
    } catch (error) {
      if (error instanceof ConvoyError && error.code === 'target_io') {
        return { kind: 'unreadable', problem: error.message };
      }
      return { kind: 'failed', error: asConvoyError(error, 'worker_failed').toPlain() };
    }
  }

  async #check(task: CheckTask): Promise<CheckOutcome> {
    switch (task.kind) {
      case 'files': {
        const tools = await this.#toolsFor(task.settings);
        return { kind: 'files', problems: checkFiles(task.root, task.files, tools) };
      }
      case 'range': {
        const tools = await this.#toolsFor(task.settings);
        return { kind: 'range', check: checkRange(task.root, task.file, task, tools) };
      }
      case 'wal': {
        const { checkSegments } = await import('../wal-check/check-segments.js');
        // records are read as 32-bit words, which Node's own pool may not be fit for
        const memory = Buffer.from(new ArrayBuffer(BUFFER_BYTES));
        return { kind: 'wal', outcome: checkSegments(task.task, memory) };
      }
      case 'archive': {
        const { checkArchive } = await import('./check-archive.js');
        return await checkArchive(task, await this.#toolsFor(task.settings));
      }
      default:
        return assertNever(task);
    }
  }

  /** The same for every task of a thread. */
  async #toolsFor(settings: CheckSettings): Promise<CheckTools> {
    this.#tools ??= await createTools(settings);
    return this.#tools;
  }
}

async function createTools(settings: CheckSettings): Promise<CheckTools> {
  const progress = new ProgressCounters(settings.progress);
  const rest = { settings, progress: (bytes: number, files: number) => progress.add(bytes, files) };
  const { pageStartLsn: startLsn } = settings;
  if (startLsn === undefined)
    return { ...rest, buffer: Buffer.allocUnsafeSlow(BUFFER_BYTES), pages: undefined };
  const { PageMemory } = await import('../pgdata/page-checksum.js');
  const memory = PageMemory.create({ bufferCount: 1, bufferBytes: BUFFER_BYTES });
  return { ...rest, buffer: memory.buffer(0), pages: { memory, startLsn } };
}
