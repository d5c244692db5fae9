/* A target that fills archives, from its description; what the coordinator can do with it besides writing files. */
import { PlacedArchiveWriter } from './placed-archive-writer.js';
import type { ArchiveTargetSpec, Target } from './target.js';

export interface ArchiveWriter extends Target {
  /**
   * Adds whole blocks that are no file: headers of directories, the end.
   *
   * @returns a promise where the caller is to wait; it never rejects, what went wrong is thrown by a later call
   * @throws ConvoyError `target_io`
   */
  append(archive: number, blocks: Buffer): Promise<void> | undefined;
  /** Gives back what is open. */
  close(): void;
}

export function openArchiveWriter(spec: ArchiveTargetSpec): ArchiveWriter {
  return new PlacedArchiveWriter(spec);
}
