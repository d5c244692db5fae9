/* What a worker thread of a restore does with one task; driven by workers/restore.ts. */
import { assertNever } from '../assert-never.js';
import { asConvoyError } from '../errors.js';
import { syncPaths } from '../target/directory-writer.js';
import { copyFiles } from './copy-files.js';
import { extractArchive } from './extract-archive.js';
import type { RestoreOutcome, RestoreTask } from './messages.js';

const WAL_BUFFER_BYTES = 256 * 1024;

export async function runTask(task: RestoreTask): Promise<RestoreOutcome> {
  try {
    switch (task.kind) {
      case 'copy':
        return { kind: 'restored', files: copyFiles(task.files, task.settings), directories: [] };
      case 'extract': {
        const { files, directories } = await extractArchive(task.archive, task.settings);
        return { kind: 'restored', files, directories };
      }
      case 'sync':
        syncPaths(task.paths);
        return { kind: 'restored', files: [], directories: [] };
      case 'wal': {
        const { checkSegments } = await import('../wal-check/check-segments.js');
        // records are read as 32-bit words, which Node's own pool may not be fit for
        const memory = Buffer.from(new ArrayBuffer(WAL_BUFFER_BYTES));
        return { kind: 'wal', outcome: checkSegments(task.task, memory) };
      }
      default:
        return assertNever(task);
    }
  } catch (error) {
    return { kind: 'failed', error: asConvoyError(error, 'worker_failed').toPlain() };
  }
}
