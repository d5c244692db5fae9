/*
 * Splits the files of a backup into tasks of about equal length: many small files together, one large file in ranges
 * where its checksum can be put together again, so that the last thread is not left with a gigabyte. Pure; called by
 * recorded-files.ts.
 */
import { CRC32C } from '../crc-combine.js';
import type { CheckedFile, CheckSettings, RangeCheck } from './check-messages.js';
import { isRead } from './content-check.js';
import { NAMED_BAD_PAGES, type PageVerification } from '../pgdata/page-verifier.js';

/** Whole pages. */
const RANGE_BYTES = 32 * 1024 * 1024;
const BATCH_BYTES = 8 * 1024 * 1024;
const BATCH_FILES = 256;

export interface FileRange {
  readonly from: number;
  readonly bytes: number;
}

export interface FileTasks {
  /** Files that are checked in ranges, the largest first. */
  readonly large: readonly { readonly file: CheckedFile; readonly ranges: readonly FileRange[] }[];
  readonly batches: readonly (readonly CheckedFile[])[];
}

export function planFiles(files: readonly CheckedFile[], settings: CheckSettings): FileTasks {
  const isLarge = (file: CheckedFile): boolean =>
    file.size > 2 * RANGE_BYTES &&
    isRead(file, settings.checkFiles, settings.pageStartLsn !== undefined) &&
    (!settings.checkFiles || file.algorithm === 'CRC32C' || file.algorithm === 'NONE');
  const large = files.filter(isLarge).toSorted((a, b) => b.size - a.size);
  return {
    large: large.map((file) => ({ file, ranges: rangesOf(file.size) })),
    batches: batchesOf(files.filter((file) => !isLarge(file))),
  };
}

function rangesOf(size: number): FileRange[] {
  const ranges: FileRange[] = [];
  for (let from = 0; from < size; from += RANGE_BYTES) {
    ranges.push({ from, bytes: Math.min(RANGE_BYTES, size - from) });
  }
  return ranges;
}

/** In the order given, as they lie in directories; the heaviest batches first. */
function batchesOf(files: readonly CheckedFile[]): CheckedFile[][] {
  const batches: { files: CheckedFile[]; bytes: number }[] = [];
  let current: { files: CheckedFile[]; bytes: number } | undefined;
  for (const file of files) {
    if (
      current === undefined ||
      current.files.length >= BATCH_FILES ||
      current.bytes + file.size > BATCH_BYTES
    ) {
      current = { files: [], bytes: 0 };
      batches.push(current);
    }
    current.files.push(file);
    current.bytes += file.size;
  }
  return batches.toSorted((a, b) => b.bytes - a.bytes).map((batch) => batch.files);
}

/** The check of a whole file out of those of its ranges, in their order. */
export function joinRanges(ranges: readonly FileRange[], checks: readonly RangeCheck[]): RangeCheck {
  let crc = 0;
  let readBytes = 0;
  for (const [index, check] of checks.entries()) {
    crc = CRC32C.combine(crc, check.crc, ranges[index]?.bytes ?? 0);
    readBytes += check.readBytes;
  }
  const pages = checks.flatMap((check) => (check.pages === undefined ? [] : [check.pages]));
  return { crc, readBytes, pages: pages.length === 0 ? undefined : joinPages(pages) };
}

function joinPages(verifications: readonly PageVerification[]): PageVerification {
  const badPageCount = verifications.reduce((sum, each) => sum + each.badPageCount, 0);
  const badPages = verifications.flatMap((each) => each.badPages).slice(0, NAMED_BAD_PAGES);
  const unverifiedFrom = verifications.find((each) => each.unverifiedFrom !== undefined)?.unverifiedFrom;
  return { badPageCount, badPages, ...(unverifiedFrom === undefined ? {} : { unverifiedFrom }) };
}
