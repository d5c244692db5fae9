/* What a worker does with one task: read its files, write them, say how it went. Called by workers/copy.ts. */
import { asConvoyError, type ConvoyError } from '../errors.js';
import type { FileReader, ReadOptions } from '../source/source.js';
import type { CopyOutcome, CopyTaskMessage } from './messages.js';
import type { CopyTools } from './paced-file.js';
import { TaskCopy } from './task-copy.js';

/** Never throws: what goes wrong is the outcome. */
export async function copyTask(
  task: CopyTaskMessage,
  reader: FileReader,
  options: ReadOptions,
  tools: CopyTools,
): Promise<CopyOutcome> {
  const copy = new TaskCopy(task, tools);
  try {
    await copy.mayBegin();
    const { hasBadPages, badPageCount, warnings } = await reader.read(task.files, options, copy);
    const stretches = await copy.commit();
    const { files, parts, vanished } = copy;
    const pages = badPageCount === undefined ? { hasBadPages } : { hasBadPages, badPageCount };
    return { kind: 'copied', files, parts, vanished, stretches, ...pages, warnings };
  } catch (error) {
    const isTakenBack = await copy.rollback();
    const failure = asConvoyError(error, 'worker_failed');
    if (!mayBeTriedAgain(failure)) return { kind: 'failed', error: failure.toPlain() };
    if (isTakenBack) return { kind: 'connection_lost', error: failure.toPlain() };
    const hint = 'what a task has begun to write here cannot be written again';
    return { kind: 'failed', error: { ...failure.toPlain(), hint } };
  }
}

/**
 * A connection that broke, and statements that the server ended without the backup being to blame: cancelled by an
 * administrator (57014), or in conflict with replay on a standby (40001).
 */
function mayBeTriedAgain({ code, sqlState }: ConvoyError): boolean {
  return (
    code === 'connection_lost' || (code === 'server_error' && (sqlState === '57014' || sqlState === '40001'))
  );
}
