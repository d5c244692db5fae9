/* Verifies a backup that is a data directory. Called by verify.ts. */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { fileError } from '../errors.js';
import type { RecordedFile } from '../manifest/manifest.js';
import { CONTROL_FILE_PATH, type ControlFile } from '../pgdata/control-file.js';
import { isRead } from './content-check.js';
import { checkControlFile, wantsPages } from './control-check.js';
import { scanDirectory } from './directory-scan.js';
import { checkRecordedFiles } from './recorded-files.js';
import { checkSettings, type Verification } from './verification.js';

/** @param directory absolute path @throws ConvoyError `target_io` where it cannot be read at all, FirstProblem */
export async function verifyPlainBackup(verification: Verification, directory: string): Promise<void> {
  const { options, events, manifest, ignored, problems, counters } = verification;
  const found = scanDirectory(directory, manifest, ignored, problems);
  const { controlFile, isTold } = readControl(verification, directory, found);
  const files = isTold ? found.filter(({ path: file }) => file !== CONTROL_FILE_PATH) : found;
  const settings = checkSettings(verification, wantsPages(verification, controlFile));
  const checkPages = settings.pageStartLsn !== undefined;
  const read = files.filter((file) => isRead(file, options.checkFiles, checkPages));
  const bytes = read.reduce((sum, { size }) => sum + size, 0);
  events.readingStarted({ bytes, files: files.length }, () => counters.read());
  try {
    const filesChecked = checkRecordedFiles(verification, settings, { kind: 'directory', directory }, files);
    const walDirectory = options.walDirectory ?? path.join(directory, 'pg_wal');
    const systemIdentifier = manifest.systemIdentifier ?? controlFile?.systemIdentifier;
    const walChecked = options.checkWal ? checkWal(verification, walDirectory, systemIdentifier) : undefined;
    await Promise.all([filesChecked, walChecked]);
  } finally {
    events.readingEnded();
  }
}

interface ReadControl {
  /** Undefined where there is none, or it is damaged. */
  readonly controlFile: ControlFile | undefined;
  /** What is wrong with it has been reported: its checksum would say the same. */
  readonly isTold: boolean;
}

function readControl(
  verification: Verification,
  directory: string,
  files: readonly RecordedFile[],
): ReadControl {
  const { manifest, problems } = verification;
  const recorded = manifest.files.get(CONTROL_FILE_PATH);
  if (recorded === undefined || !files.includes(recorded)) return { controlFile: undefined, isTold: false };
  const file = path.join(directory, CONTROL_FILE_PATH);
  let bytes: Buffer;
  try {
    bytes = readFileSync(file);
  } catch (error) {
    // nobody else may read it, with -s
    problems.report(fileError('open file', CONTROL_FILE_PATH, error).message);
    return { controlFile: undefined, isTold: true };
  }
  const controlFile = checkControlFile(verification, file, bytes);
  const isOneDamage = controlFile === undefined && bytes.length === recorded.size;
  return { controlFile, isTold: isOneDamage && manifest.version > 1 };
}

async function checkWal(
  verification: Verification,
  directory: string,
  systemIdentifier: bigint | undefined,
): Promise<void> {
  // loaded while the threads read files
  const [{ checkRequiredWal }, { readWalDirectory }] = await Promise.all([
    import('./required-wal.js'),
    import('../wal-check/wal-directory.js'),
  ]);
  await checkRequiredWal(verification, () => readWalDirectory(directory), systemIdentifier);
}
