/*
 * backup_label: parse and format as twins. `serve` composes it when a backup starts, since a stock server only
 * returns it at the end; the client reads the start position out of it.
 * Source: build_backup_content in PostgreSQL's src/backend/access/transam/xlogbackup.c.
 */
import { ConvoyError } from '../errors.js';
import { formatLsn, parseLsn, type Lsn } from '../lsn.js';

export const BACKUP_LABEL_PATH = 'backup_label';

export interface BackupLabel {
  readonly startLsn: Lsn;
  /** Name of the segment that holds the start position. */
  readonly startSegment: string;
  readonly checkPoint: Lsn;
  /** PostgreSQL 13 calls a primary "master". */
  readonly backupFrom: 'primary' | 'master' | 'standby';
  /** As the server prints it, in its log_timezone. */
  readonly startTime: string;
  readonly label: string;
  readonly startTimeline: number;
}

export function formatBackupLabel(label: BackupLabel): string {
  return [
    `START WAL LOCATION: ${formatLsn(label.startLsn)} (file ${label.startSegment})`,
    `CHECKPOINT LOCATION: ${formatLsn(label.checkPoint)}`,
    'BACKUP METHOD: streamed',
    `BACKUP FROM: ${label.backupFrom}`,
    `START TIME: ${label.startTime}`,
    `LABEL: ${label.label}`,
    `START TIMELINE: ${label.startTimeline}`,
    '',
  ].join('\n');
}

/** @throws ConvoyError `file_damaged` naming the line that is missing or wrong */
export function parseBackupLabel(text: string): BackupLabel {
  const start = field(text, 'START WAL LOCATION', /^([^ ]+) \(file ([0-9A-F]{24})\)$/);
  const from = field(text, 'BACKUP FROM', /^(primary|master|standby)$/)[1];
  return {
    startLsn: lsnField(start[1], 'START WAL LOCATION'),
    startSegment: start[2] ?? '',
    checkPoint: lsnField(field(text, 'CHECKPOINT LOCATION', /^(.+)$/)[1], 'CHECKPOINT LOCATION'),
    backupFrom: from as BackupLabel['backupFrom'],
    startTime: field(text, 'START TIME', /^(.+)$/)[1] ?? '',
    label: field(text, 'LABEL', /^(.*)$/)[1] ?? '',
    startTimeline: Number(field(text, 'START TIMELINE', /^(\d{1,10})$/)[1]),
  };
}

function field(text: string, name: string, pattern: RegExp): RegExpExecArray {
  const line = text.split('\n').find((candidate) => candidate.startsWith(`${name}: `));
  const match = line === undefined ? null : pattern.exec(line.slice(name.length + 2));
  if (match === null)
    throw new ConvoyError('file_damaged', `invalid backup label: line "${name}" missing or wrong`);
  return match;
}

function lsnField(text: string | undefined, name: string): Lsn {
  const lsn = parseLsn(text ?? '');
  if (lsn === undefined)
    throw new ConvoyError('file_damaged', `invalid backup label: line "${name}" missing or wrong`);
  return lsn;
}
