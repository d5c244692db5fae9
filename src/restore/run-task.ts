/* What a worker thread of a restore does with one task; driven by workers/restore.ts. */
import { assertNever } from '../assert-never.js';
import { asConvoyError } from '../errors.js';
import { syncPaths } from '../target/directory-writer.js';
import { copyFiles } from './copy-files.js';
import { extractArchive } from './extract-archive.js';
import type { RestoreOutcome, RestoreTask } from './messages.js';

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
      default:
        return assertNever(task);
    }
  } catch (error) {
    return { kind: 'failed', error: asConvoyError(error, 'worker_failed').toPlain() };
  }
}
