/*
 * Puts the parts of files that several workers copied together again: the checksum of the whole out of those of its
 * parts, without reading it. Kept by the coordinator; a part is counted once its task has ended well.
 */
import { type ChecksumAlgorithm, formatCrc32c, parseCrc32c } from '../checksum.js';
import { CRC32C } from '../crc-combine.js';
import type { ManifestFile } from '../manifest/manifest.js';
import type { CopyTask } from '../plan/plan.js';
import type { CopiedPart } from './messages.js';

/** Checksums of wholes can be put together from parts. */
export function canCombine(algorithm: ChecksumAlgorithm): boolean {
  return algorithm === 'CRC32C' || algorithm === 'NONE';
}

interface OpenFile {
  readonly slot: number;
  readonly mtime: number;
  missing: number;
  readonly parts: CopiedPart[];
  hasVanished: boolean;
}

/** A file whose parts have all been dealt with. */
export type AssembledFile =
  | { readonly kind: 'complete'; readonly file: ManifestFile }
  /** It was gone for at least one part: what the others wrote is to be removed. */
  | ({ readonly kind: 'vanished' } & VanishedFile);

export interface VanishedFile {
  /** Relative to the data directory; tablespace files below pg_tblspc/<oid>/. */
  readonly path: string;
  /** Seconds since the epoch, as listed. */
  readonly mtime: number;
  /** As in CopyTask. */
  readonly slot: number;
}

export class RangeAssembly {
  readonly #open = new Map<string, OpenFile>();
  readonly #cut = new Set<string>();

  constructor(tasks: readonly CopyTask[]) {
    for (const { files, slot } of tasks) {
      // a part is alone in its task
      const [file] = files;
      if (file?.range === undefined) continue;
      this.#cut.add(file.target);
      const open = this.#open.get(file.target);
      if (open !== undefined) open.missing += 1;
      else {
        const { mtime } = file;
        this.#open.set(file.target, { slot, mtime, missing: 1, parts: [], hasVanished: false });
      }
    }
  }

  /** @returns the file, with its last part */
  addPart(part: CopiedPart): AssembledFile | undefined {
    return this.#settle(part.path, (open) => open.parts.push(part));
  }

  /** @returns the file, with its last part; undefined for a file that was not cut, too */
  addVanished(path: string): AssembledFile | undefined {
    return this.#settle(path, (open) => (open.hasVanished = true));
  }

  /** True for a file of which a task copies only a part. */
  wasCut(path: string): boolean {
    return this.#cut.has(path);
  }

  #settle(path: string, note: (open: OpenFile) => void): AssembledFile | undefined {
    const open = this.#open.get(path);
    if (open === undefined) return undefined;
    note(open);
    open.missing -= 1;
    if (open.missing > 0) return undefined;
    this.#open.delete(path);
    const { slot, mtime, hasVanished, parts } = open;
    return hasVanished
      ? { kind: 'vanished', path, slot, mtime }
      : { kind: 'complete', file: joinParts(parts) };
  }
}

function joinParts(parts: readonly CopiedPart[]): ManifestFile {
  const [first, ...rest] = parts.toSorted((a, b) => a.offset - b.offset);
  if (first === undefined) throw new TypeError('a file in parts has at least one');
  const { path, mtime } = first;
  let { size } = first;
  if (first.checksum === '')
    return { path, mtime, checksum: '', size: parts.reduce((sum, part) => sum + part.size, 0) };
  let crc = parseCrc32c(first.checksum);
  for (const part of rest) {
    crc = CRC32C.combine(crc, parseCrc32c(part.checksum), part.size);
    size += part.size;
  }
  return { path, mtime, checksum: formatCrc32c(crc), size };
}
