/* What is told of a backup that is complete: returned by `backup`, printed with -v, written with --report. Plain data. */
import type { ProgressCount } from '../progress-counters.js';
import type { Lsn } from '../lsn.js';
import type { BackupPhase } from './backup-options.js';

export interface PhaseFigures {
  readonly phase: BackupPhase;
  readonly seconds: number;
  /** What was moved; undefined for phases that move nothing. */
  readonly bytes?: number;
}

export interface WorkerFigures {
  /** Counted from 1. */
  readonly worker: number;
  /** A file that workers share belongs to the one that copied its beginning. */
  readonly files: number;
  readonly bytes: number;
  /** With a task in hand. */
  readonly seconds: number;
  /** Its tasks that were repeated after its connection broke. */
  readonly retries: number;
}

export interface TablespaceFigures {
  /** Undefined: the data directory, WAL segments not counted. */
  readonly oid: number | undefined;
  /** On the server; undefined for the data directory. */
  readonly location: string | undefined;
  readonly files: number;
  readonly bytes: number;
  /** From when a worker began with its first task to when the last one was done. */
  readonly seconds: number;
}

export interface BackupReport {
  readonly source: 'walsender' | 'sql';
  readonly serverVersion: string;
  readonly systemIdentifier: bigint;
  readonly startLsn: Lsn;
  readonly stopLsn: Lsn;
  readonly timeline: number;
  /** Files and bytes written, WAL included. */
  readonly copied: ProgressCount;
  /** Bytes of WAL segments. */
  readonly walBytes: number;
  /** In the order in which they ran. */
  readonly phases: readonly PhaseFigures[];
  readonly workers: readonly WorkerFigures[];
  readonly tablespaces: readonly TablespaceFigures[];
  /** Gone on the server before they could be read, as is normal. */
  readonly vanishedFiles: number;
  /** Tasks that were repeated on a new connection. */
  readonly retries: number;
  /** Pages were damaged on the server; the warnings named them. */
  readonly hasBadPages: boolean;
  /** Undefined: there are some, and the server does not say how many. */
  readonly badPageCount: number | undefined;
}
