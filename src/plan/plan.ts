/*
 * Cuts the list of files into copy tasks: pure, deterministic, called once a backup by the coordinator.
 * A task stays within one tablespace (the patched server cuts names wrongly otherwise, PROTOCOL rule 2), within a
 * number of bytes, so that work is shared evenly, and of files, so that one command stays small.
 */

/** One file to copy. */
export interface PlannedFile {
  /** As the source names it. */
  readonly source: string;
  /** Relative to the backup's data directory; tablespace files below pg_tblspc/<oid>/. */
  readonly target: string;
  /** Bytes, as listed; it may have changed since. */
  readonly size: number;
  /** Seconds since the epoch, as listed. */
  readonly mtime: number;
  /** Oid of the tablespace; undefined in the data directory. */
  readonly tablespace: number | undefined;
  /** The part of the file that is meant, where several workers share it; undefined: all of it. */
  readonly range?: PlannedRange;
}

/** Bytes; begins at a multiple of RANGE_UNIT_BYTES. */
export interface PlannedRange {
  readonly offset: number;
  readonly length: number;
}

/** What a worker pulls: files that one command reads. */
export interface CopyTask {
  readonly id: number;
  readonly files: readonly PlannedFile[];
  /** Number of its first file; the others count on. Tasks that share a file share its number. */
  readonly slot: number;
  /**
   * Where the target takes the parts of files one after the other only: how many parts come first. Whole files come behind
   * all parts, and have no order among themselves.
   */
  readonly turn?: number;
  /** Sum of the listed sizes. */
  readonly bytes: number;
}

export interface PlanLimits {
  readonly maxTaskBytes: number;
  readonly maxTaskFiles: number;
  /** Files larger than a task are cut into ranges; the source can read them and the checksum be put together. */
  readonly splitFiles: boolean;
  /** The parts of a file follow each other, and have turns. */
  readonly inTurn: boolean;
}

export const MAX_TASK_FILES = 1000;
const MAX_TASK_BYTES = 256 * 1024 * 1024;
const MIN_TASK_BYTES = 4 * 1024 * 1024;
/** Tasks a worker should get at least, so that all end at about the same time. */
const TASKS_PER_WORKER = 32;
/** Whole pages, and whole rows of the sql source. */
export const RANGE_UNIT_BYTES = 1024 * 1024;

/**
 * Limits that share `totalBytes` well over `jobs` workers.
 *
 * @param heldBytes what a target would have a task be that keeps all of it until it is complete; parts of files have turns
 * then. Undefined: it keeps nothing
 */
export function planLimits(
  totalBytes: number,
  jobs: number,
  { splitFiles, heldBytes }: { readonly splitFiles: boolean; readonly heldBytes: number | undefined },
): PlanLimits {
  const mostBytes = heldBytes ?? MAX_TASK_BYTES;
  const share = Math.ceil(totalBytes / (jobs * TASKS_PER_WORKER));
  return {
    maxTaskBytes: Math.min(mostBytes, Math.max(MIN_TASK_BYTES, share)),
    maxTaskFiles: MAX_TASK_FILES,
    splitFiles,
    inTurn: heldBytes !== undefined,
  };
}

/** Numbers that the files of these tasks have: from 0 to below this. */
export function slotCount(tasks: readonly CopyTask[]): number {
  return tasks.reduce((most, { slot, files }) => Math.max(most, slot + files.length), 0);
}

/**
 * Tasks, largest first. Files of one task lie together in the list, which is directory order. Parts of several large files
 * alternate, since workers that write to one file at the same time wait for each other in the kernel; where they have turns,
 * they follow each other.
 */
export function planTasks(files: readonly PlannedFile[], limits: PlanLimits): CopyTask[] {
  const groups: PlannedFile[][] = [];
  const open = new Map<number | undefined, { files: PlannedFile[]; bytes: number }>();
  for (const file of files) {
    const group = open.get(file.tablespace);
    if (file.size >= limits.maxTaskBytes) {
      groups.push(...cutIntoRanges(file, limits).map((range) => [range]));
    } else if (
      group === undefined ||
      group.files.length >= limits.maxTaskFiles ||
      group.bytes + file.size > limits.maxTaskBytes
    ) {
      const started = { files: [file], bytes: file.size };
      open.set(file.tablespace, started);
      groups.push(started.files);
    } else {
      group.files.push(file);
      group.bytes += file.size;
    }
  }
  return limits.inTurn ? inTurn(numbered(groups)) : alternating(numbered(groups));
}

type NumberedTask = Omit<CopyTask, 'id'>;

function numbered(groups: readonly (readonly PlannedFile[])[]): NumberedTask[] {
  let next = 0;
  return groups.map((files) => {
    // the parts of a file come one after the other
    const slot = startOf(files) > 0 ? next - 1 : next;
    next = slot + files.length;
    return { files, slot, bytes: files.reduce((sum, file) => sum + plannedBytes(file), 0) };
  });
}

function alternating(tasks: readonly NumberedTask[]): CopyTask[] {
  return tasks
    .toSorted((a, b) => b.bytes - a.bytes || startOf(a.files) - startOf(b.files))
    .map((task, id) => ({ id, ...task }));
}

/** All parts come first, file by file. */
function inTurn(tasks: readonly NumberedTask[]): CopyTask[] {
  const [parts, whole] = [tasks.filter(isPart), tasks.filter((task) => !isPart(task))];
  return [...parts, ...whole.toSorted((a, b) => b.bytes - a.bytes)].map((task, id) => ({
    id,
    ...task,
    turn: Math.min(id, parts.length),
  }));
}

function isPart({ files: [first] }: NumberedTask): boolean {
  return first?.range !== undefined;
}

function startOf([first]: readonly PlannedFile[]): number {
  return first?.range?.offset ?? 0;
}

/** Bytes that are to be copied of a planned file. */
export function plannedBytes({ size, range }: PlannedFile): number {
  return range?.length ?? size;
}

function cutIntoRanges(file: PlannedFile, limits: PlanLimits): PlannedFile[] {
  if (!limits.splitFiles) return [file];
  const units = Math.max(1, Math.floor(limits.maxTaskBytes / RANGE_UNIT_BYTES));
  const rangeBytes = units * RANGE_UNIT_BYTES;
  const count = Math.ceil(file.size / rangeBytes);
  if (count < 2) return [file];
  return Array.from({ length: count }, (_, index) => {
    const offset = index * rangeBytes;
    return { ...file, range: { offset, length: Math.min(rangeBytes, file.size - offset) } };
  });
}
