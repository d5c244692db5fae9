/* A target from its description; called by each worker thread, and by the coordinator for the files it writes itself. */
import { assertNever } from '../assert-never.js';
import { TargetWithAddedText } from './added-text.js';
import { openArchiveWriter } from './archive-writer.js';
import { Blackhole } from './blackhole.js';
import { DirectoryWriter } from './directory-writer.js';
import type { Target, TargetSpec } from './target.js';

export function openTarget(spec: TargetSpec): Target {
  switch (spec.kind) {
    case 'directory':
      return new TargetWithAddedText(new DirectoryWriter(spec), spec.addedText ?? []);
    case 'archive':
      return new TargetWithAddedText(openArchiveWriter(spec), spec.addedText ?? []);
    case 'blackhole':
      return new Blackhole();
    default:
      return assertNever(spec);
  }
}
