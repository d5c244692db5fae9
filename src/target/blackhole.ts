/*
 * The target that keeps nothing (pg_basebackup's -t blackhole): everything is read, checked and checksummed, nothing is
 * written. For measuring a server and a link, and for finding damaged pages without room for a backup.
 */
import type { FileWriter, Target, TargetFile } from './target.js';

export class Blackhole implements Target {
  createFile({ size }: TargetFile): FileWriter {
    return { size, write: () => undefined, finish: () => {}, abandon: () => {} };
  }

  commit(): Promise<[]> {
    return Promise.resolve([]);
  }

  rollback(): Promise<boolean> {
    return Promise.resolve(true);
  }
}
