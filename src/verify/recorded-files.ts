/*
 * Has the threads compare files with the manifest, and reports what they find. Called for plain backups and for
 * archives that are not compressed.
 */
import { statSync } from 'node:fs';
import { formatCrc32c } from '../checksum.js';
import { fileError } from '../errors.js';
import { encodeFileName } from '../file-name-bytes.js';
import { verificationWarnings } from '../pgdata/page-verifier.js';
import { shortProblem, sizeProblem } from './check-files.js';
import type { CheckedFile, CheckRoot, CheckSettings } from './check-messages.js';
import { checksumProblem } from './content-check.js';
import { joinRanges, planFiles, type FileRange } from './file-tasks.js';
import type { Verification } from './verification.js';

/** @throws ConvoyError where a thread failed, FirstProblem */
export async function checkRecordedFiles(
  verification: Verification,
  settings: CheckSettings,
  root: CheckRoot,
  files: readonly CheckedFile[],
): Promise<void> {
  const { pool, problems, counters } = verification;
  const { large, batches } = planFiles(files, settings);
  const work = large.map(async ({ file, ranges }) => {
    const found = await checkLargeFile(verification, settings, root, file, ranges);
    counters.add(0, 1);
    problems.reportAll(found);
  });
  for (const batch of batches) work.push(checkBatch(batch));
  await Promise.all(work);

  async function checkBatch(batch: readonly CheckedFile[]): Promise<void> {
    const outcome = await pool.run<'files'>({ kind: 'files', settings, root, files: batch });
    problems.reportAll(outcome.kind === 'files' ? outcome.problems : [outcome.problem]);
  }
}

async function checkLargeFile(
  { pool }: Verification,
  settings: CheckSettings,
  root: CheckRoot,
  file: CheckedFile,
  ranges: readonly FileRange[],
): Promise<string[]> {
  const wrongSize = root.kind === 'directory' ? wrongSizeOf(root.directory, file) : [];
  if (wrongSize.length > 0) return wrongSize;
  const outcomes = await Promise.all(
    ranges.map((range) => pool.run<'range'>({ kind: 'range', settings, root, file, ...range })),
  );
  const unreadable = outcomes.find((outcome) => outcome.kind === 'unreadable');
  if (unreadable !== undefined) return [unreadable.problem];
  const checks = outcomes.flatMap((outcome) => (outcome.kind === 'range' ? [outcome.check] : []));
  const { crc, readBytes, pages } = joinRanges(ranges, checks);
  if (readBytes !== file.size) return [shortProblem(file, readBytes)];
  const where = root.kind === 'archive' ? ` in archive "${root.name}"` : '';
  const isCompared = settings.checkFiles && file.algorithm !== 'NONE';
  const wrong = isCompared ? checksumProblem(file, formatCrc32c(crc), where) : undefined;
  const warnings = pages === undefined ? [] : verificationWarnings(file.path, pages);
  return wrong === undefined ? warnings : [wrong, ...warnings];
}

function wrongSizeOf(directory: string, file: CheckedFile): string[] {
  try {
    return sizeProblem(file, statSync(encodeFileName(`${directory}/${file.path}`)).size);
  } catch (error) {
    return [fileError('stat file or directory', file.path, error).message];
  }
}
