/*
 * Messages as they pass between threads: the files of a task as columns, since a structured clone of as many objects costs
 * five times as much. Used at both ends: workers/copy.ts and the pool.
 */
import type { ManifestFile } from '../manifest/manifest.js';
import type { FileToRead } from '../source/source.js';
import type { CopyOutcome, CopyTaskMessage, WorkerAnswer, WorkerTask } from './messages.js';

/** The values of the same property of all rows, one list a property. */
type Columns<Row> = { readonly [Key in keyof Row]-?: readonly Row[Key][] };

type WithFiles<Message, Row> = Omit<Message, 'files'> & { readonly files: Columns<Row> };

type CopyRequest = Extract<WorkerTask, { kind: 'copy' }>;
type Copied = Extract<CopyOutcome, { kind: 'copied' }>;

export type PackedTask =
  | Exclude<WorkerTask, CopyRequest>
  | (Omit<CopyRequest, 'task'> & { readonly task: WithFiles<CopyTaskMessage, FileToRead> });

export interface PackedAnswer extends Omit<WorkerAnswer, 'outcome'> {
  readonly outcome: Exclude<CopyOutcome, Copied> | WithFiles<Copied, ManifestFile>;
}

export function packTask(message: WorkerTask): PackedTask {
  if (message.kind !== 'copy') return message;
  const { files } = message.task;
  const columns = {
    source: files.map(({ source }) => source),
    target: files.map(({ target }) => target),
    size: files.map(({ size }) => size),
    mtime: files.map(({ mtime }) => mtime),
    range: files.map(({ range }) => range),
  };
  return { ...message, task: { ...message.task, files: columns } };
}

export function unpackTask(message: PackedTask): WorkerTask {
  if (message.kind !== 'copy') return message;
  const { source, target, size, mtime, range } = message.task.files;
  const files = source.map((name, row) => ({
    source: name,
    target: valueAt(target, row),
    size: valueAt(size, row),
    mtime: valueAt(mtime, row),
    range: valueAt(range, row),
  }));
  return { ...message, task: { ...message.task, files } };
}

export function packAnswer(answer: WorkerAnswer): PackedAnswer {
  const { outcome } = answer;
  if (outcome.kind !== 'copied') return { ...answer, outcome };
  const { files } = outcome;
  const columns = {
    path: files.map(({ path }) => path),
    size: files.map(({ size }) => size),
    mtime: files.map(({ mtime }) => mtime),
    checksum: files.map(({ checksum }) => checksum),
  };
  return { ...answer, outcome: { ...outcome, files: columns } };
}

export function unpackAnswer(answer: PackedAnswer): WorkerAnswer {
  const { outcome } = answer;
  if (outcome.kind !== 'copied') return { ...answer, outcome };
  const { path, size, mtime, checksum } = outcome.files;
  const files = path.map((name, row) => ({
    path: name,
    size: valueAt(size, row),
    mtime: valueAt(mtime, row),
    checksum: valueAt(checksum, row),
  }));
  return { ...answer, outcome: { ...outcome, files } };
}

function valueAt<Value>(column: readonly Value[], row: number): Value {
  if (row >= column.length) throw new TypeError(`a message between threads has no row ${row}`);
  return column[row] as Value;
}
