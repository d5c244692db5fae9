/*
 * The target that keeps nothing (pg_basebackup's -t blackhole): everything is read, checked and checksummed, nothing is
 * written. For measuring a server and a link, and for finding damaged pages without room for a backup.
 */
import type { FileWriter, Target } from './target.js';

const NOTHING: FileWriter = { write: () => {}, finish: () => {}, abandon: () => {} };

export class Blackhole implements Target {
  createFile(): FileWriter {
    return NOTHING;
  }
}
