/* What a worker does with one task: read its files, write them, say how it went. Called by workers/copy.ts. */
import { asConvoyError, type ConvoyError } from '../errors.js';
import type { ManifestFile } from '../manifest/manifest.js';
import type { FileReader, FileReceiver, ReadOptions } from '../source/source.js';
import type { CopiedPart, CopyOutcome, CopyTaskMessage } from './messages.js';
import { PacedFileCopy, type CopyTools } from './paced-file.js';

/** Never throws: what goes wrong is the outcome. */
export async function copyTask(
  { files, slot }: CopyTaskMessage,
  reader: FileReader,
  options: ReadOptions,
  tools: CopyTools,
): Promise<CopyOutcome> {
  const copy = new PacedFileCopy(tools);
  const copied: ManifestFile[] = [];
  const parts: CopiedPart[] = [];
  const arrived = new Set<number>();
  let offset: number | undefined;
  const receiver: FileReceiver = {
    begin(index, { size, mode, mtime }) {
      arrived.add(index);
      const file = files[index];
      offset = file?.range?.offset;
      const wholeSize = offset === undefined ? size : file?.size;
      copy.begin({ path: file?.target ?? '', size, mode, mtime, offset, wholeSize, slot: slot + index });
    },
    data: (chunk) => copy.data(chunk),
    end() {
      if (offset === undefined) copied.push(copy.end());
      else parts.push({ ...copy.end(), offset });
    },
  };
  try {
    const { hasBadPages, badPageCount, warnings } = await reader.read(files, options, receiver);
    const stretches = await tools.target.commit();
    const vanished = files.filter((_file, index) => !arrived.has(index)).map((file) => file.target);
    const pages = badPageCount === undefined ? { hasBadPages } : { hasBadPages, badPageCount };
    return { kind: 'copied', files: copied, parts, vanished, stretches, ...pages, warnings };
  } catch (error) {
    copy.abandon();
    const isTakenBack = await tools.target.rollback();
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
