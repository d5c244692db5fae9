/* A target that fills archives, from its description; what the coordinator can do with it besides writing files. */
import { PlacedArchiveWriter } from './placed-archive-writer.js';
import { StreamedArchiveWriter } from './streamed-archive-writer.js';
import type { ArchiveStretch, ArchiveTargetSpec, Target } from './target.js';

export interface ArchiveWriter extends Target {
  /**
   * Adds whole blocks that are no file: headers of directories.
   *
   * @returns a promise where the caller is to wait; it never rejects, what went wrong is thrown by a later call
   * @throws ConvoyError `target_io`
   */
  append(archive: number, blocks: Buffer): Promise<void> | undefined;
  /** Once, before anything else is written: what archives begin with. @throws ConvoyError `target_io` */
  begin(): Promise<void>;
  /**
   * Once, when everything is written and committed: what archives end with.
   *
   * @param stretches all that commits have returned
   * @throws ConvoyError `target_io`
   */
  end(stretches: readonly ArchiveStretch[]): Promise<void>;
  /** Gives back what is open. */
  close(): void;
}

/** Archives that are filled by one task after the other; else by all workers at their places. */
export function isStreamed({
  directory,
  compression,
}: Pick<ArchiveTargetSpec, 'directory' | 'compression'>): boolean {
  return directory === undefined || compression.method !== 'none';
}

const MiB = 1024 * 1024;
/** What fits into memory once it is compressed, mostly. */
const HELD_TASK_BYTES = 32 * MiB;
/** What fits into memory (MAX_HELD_BYTES) even if nothing compresses: a part must not leave before its turn. */
const HELD_TASK_BYTES_ON_OUTPUT = 15 * MiB;

/** Bytes that a task should have at most, where the archives hold it until it is complete; else undefined. */
export function heldTaskBytes(
  spec: Pick<ArchiveTargetSpec, 'directory' | 'compression'>,
): number | undefined {
  if (!isStreamed(spec)) return undefined;
  return spec.directory === undefined ? HELD_TASK_BYTES_ON_OUTPUT : HELD_TASK_BYTES;
}

/** @throws ConvoyError `target_refused` where this Node.js lacks the method of compression */
export function openArchiveWriter(spec: ArchiveTargetSpec): ArchiveWriter {
  return isStreamed(spec) ? new StreamedArchiveWriter(spec) : new PlacedArchiveWriter(spec);
}
