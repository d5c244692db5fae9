/*
 * Shares the files of a backup out to threads: pure, called once a restore. Small files go together, large ones in
 * ranges where the checksum of the whole follows from those of its parts.
 */
import type { FileToRestore } from './messages.js';

const MiB = 1024 * 1024;
/** Whole blocks of the directory target, and whole reads. */
const RANGE_UNIT_BYTES = MiB;
const MAX_TASK_BYTES = 256 * MiB;
const MIN_TASK_BYTES = 8 * MiB;
/** Tasks a thread should get at least, so that all end at about the same time. */
const TASKS_PER_THREAD = 16;
const MAX_TASK_FILES = 1000;

/** @returns groups of files, largest first */
export function planCopies(
  files: readonly FileToRestore[],
  jobs: number,
  splitFiles: boolean,
): FileToRestore[][] {
  const total = files.reduce((sum, { size }) => sum + size, 0);
  const share = Math.ceil(total / (jobs * TASKS_PER_THREAD) / RANGE_UNIT_BYTES) * RANGE_UNIT_BYTES;
  const taskBytes = Math.min(MAX_TASK_BYTES, Math.max(MIN_TASK_BYTES, share));
  const groups: { bytes: number; files: FileToRestore[] }[] = [];
  let open: { bytes: number; files: FileToRestore[] } | undefined;
  for (const file of files) {
    if (file.size >= taskBytes) {
      const parts = splitFiles ? cutIntoRanges(file, taskBytes) : [file];
      groups.push(...parts.map((part) => ({ bytes: part.range?.length ?? part.size, files: [part] })));
      continue;
    }
    if (open === undefined || open.files.length >= MAX_TASK_FILES || open.bytes + file.size > taskBytes) {
      open = { bytes: 0, files: [] };
      groups.push(open);
    }
    open.files.push(file);
    open.bytes += file.size;
  }
  return groups.toSorted((a, b) => b.bytes - a.bytes).map((group) => group.files);
}

function cutIntoRanges(file: FileToRestore, rangeBytes: number): FileToRestore[] {
  const count = Math.ceil(file.size / rangeBytes);
  if (count < 2) return [file];
  return Array.from({ length: count }, (_, index) => {
    const offset = index * rangeBytes;
    return { ...file, range: { offset, length: Math.min(rangeBytes, file.size - offset) } };
  });
}
