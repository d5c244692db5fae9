/* A target from its description; called by each worker thread, and by the coordinator for the files it writes itself. */
import { DirectoryWriter } from './directory-writer.js';
import type { Target, TargetSpec } from './target.js';

export function openTarget(spec: TargetSpec): Target {
  return new DirectoryWriter(spec);
}
