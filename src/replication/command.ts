/*
 * The parallel backup commands as values: parse (for `serve`) and format (for the client) are twins.
 * Grammar: the patch's repl_gram.y and repl_scanner.l (PROTOCOL "Commands"); keywords are upper case only.
 */
import { assertNever } from '../assert-never.js';
import { ConvoyError } from '../errors.js';
import { formatLsn, parseLsn, type Lsn } from '../lsn.js';
import { Scanner } from './scanner.js';

export interface StartBackup {
  readonly kind: 'start_backup';
  /** The user's label, one line. */
  readonly label: string;
  /** Asks for the size of each tablespace. */
  readonly progress: boolean;
  /** A fast checkpoint instead of a spread one. */
  readonly fast: boolean;
  readonly tablespaceMap: boolean;
}

export interface SendBackupFilelist {
  readonly kind: 'send_backup_filelist';
}

export interface SendBackupFiles {
  readonly kind: 'send_backup_files';
  /** As the file list names them; undefined where the command has no list. */
  readonly paths: readonly string[] | undefined;
  /** kB/s, 32 to 1048576. */
  readonly maxRateKilobytes: number | undefined;
  readonly noVerifyChecksums: boolean;
  /** Pages older than this are verified. */
  readonly startWalLocation: Lsn | undefined;
}

export interface StopBackup {
  readonly kind: 'stop_backup';
  /** The whole text of backup_label that START_BACKUP returned. */
  readonly label: string | undefined;
  readonly wal: boolean;
  /** Do not wait until the archiver has the last segment. */
  readonly noWait: boolean;
}

export type ParallelCommand = StartBackup | SendBackupFilelist | SendBackupFiles | StopBackup;

/** A command of any other kind, for the walsender behind `serve`. */
export interface OtherCommand {
  readonly kind: 'other';
  readonly text: string;
}

/** BASE_BACKUP's bounds of MAX_RATE (src/backend/backup/basebackup.c), kB/s. */
export const MAX_RATE_LOWER = 32;
export const MAX_RATE_UPPER = 1_048_576;

const DEFAULT_LABEL = 'start backup';

/** @throws ConvoyError with the SQLSTATE that the patched server answers with */
export function parseReplicationCommand(text: string): ParallelCommand | OtherCommand {
  const scanner = new Scanner(text);
  switch (scanner.word()) {
    case 'START_BACKUP':
      return parseStartBackup(scanner);
    case 'SEND_BACKUP_FILELIST':
      scanner.end();
      return { kind: 'send_backup_filelist' };
    case 'SEND_BACKUP_FILES':
      return parseSendBackupFiles(scanner);
    case 'STOP_BACKUP':
      return parseStopBackup(scanner);
    default:
      return { kind: 'other', text };
  }
}

export function formatReplicationCommand(command: ParallelCommand): string {
  switch (command.kind) {
    case 'start_backup':
      return joinWords([
        `START_BACKUP LABEL ${quote(command.label)}`,
        command.progress && 'PROGRESS',
        command.fast && 'FAST',
        command.tablespaceMap && 'TABLESPACE_MAP',
      ]);
    case 'send_backup_filelist':
      return 'SEND_BACKUP_FILELIST';
    case 'send_backup_files':
      return joinWords([
        'SEND_BACKUP_FILES',
        command.paths !== undefined && `(${command.paths.map(quote).join(', ')})`,
        command.maxRateKilobytes !== undefined && `MAX_RATE ${command.maxRateKilobytes}`,
        command.noVerifyChecksums && 'NOVERIFY_CHECKSUMS',
        command.startWalLocation !== undefined &&
          `START_WAL_LOCATION ${quote(formatLsn(command.startWalLocation))}`,
      ]);
    case 'stop_backup':
      return joinWords([
        'STOP_BACKUP',
        command.label !== undefined && `LABEL ${quote(command.label)}`,
        command.wal && 'WAL',
        command.noWait && 'NOWAIT',
      ]);
    default:
      return assertNever(command);
  }
}

function parseStartBackup(scanner: Scanner): StartBackup {
  let label: string | undefined;
  const flags = new OnceFlags(scanner);
  for (let word = scanner.optionalWord(); word !== undefined; word = scanner.optionalWord()) {
    flags.take(word, ['LABEL', 'PROGRESS', 'FAST', 'TABLESPACE_MAP']);
    if (word === 'LABEL') label = scanner.string();
  }
  scanner.end();
  return {
    kind: 'start_backup',
    label: label ?? DEFAULT_LABEL,
    progress: flags.has('PROGRESS'),
    fast: flags.has('FAST'),
    tablespaceMap: flags.has('TABLESPACE_MAP'),
  };
}

function parseSendBackupFiles(scanner: Scanner): SendBackupFiles {
  const paths = scanner.optionalStringList();
  let maxRateKilobytes: number | undefined;
  let startWalLocation: Lsn | undefined;
  const flags = new OnceFlags(scanner);
  for (let word = scanner.optionalWord(); word !== undefined; word = scanner.optionalWord()) {
    flags.take(word, ['MAX_RATE', 'NOVERIFY_CHECKSUMS', 'START_WAL_LOCATION']);
    if (word === 'MAX_RATE') maxRateKilobytes = checkRate(scanner.unsigned());
    if (word === 'START_WAL_LOCATION') startWalLocation = scannedLsn(scanner);
  }
  scanner.end();
  const noVerifyChecksums = flags.has('NOVERIFY_CHECKSUMS');
  return { kind: 'send_backup_files', paths, maxRateKilobytes, noVerifyChecksums, startWalLocation };
}

function parseStopBackup(scanner: Scanner): StopBackup {
  let label: string | undefined;
  const flags = new OnceFlags(scanner);
  for (let word = scanner.optionalWord(); word !== undefined; word = scanner.optionalWord()) {
    flags.take(word, ['LABEL', 'WAL', 'NOWAIT']);
    if (word === 'LABEL') label = scanner.string();
  }
  scanner.end();
  return { kind: 'stop_backup', label, wal: flags.has('WAL'), noWait: flags.has('NOWAIT') };
}

/** Options that may stand once each, in any order. */
class OnceFlags {
  readonly #seen = new Set<string>();
  readonly #scanner: Scanner;

  constructor(scanner: Scanner) {
    this.#scanner = scanner;
  }

  take(word: string, allowed: readonly string[]): void {
    if (!allowed.includes(word)) throw this.#scanner.unexpected(word);
    if (this.#seen.has(word)) {
      throw new ConvoyError('usage', `duplicate option "${word.toLowerCase()}"`, { sqlState: '42601' });
    }
    this.#seen.add(word);
  }

  has(word: string): boolean {
    return this.#seen.has(word);
  }
}

function checkRate(kilobytes: number): number {
  if (kilobytes >= MAX_RATE_LOWER && kilobytes <= MAX_RATE_UPPER) return kilobytes;
  throw new ConvoyError(
    'usage',
    `${kilobytes} is outside the valid range for parameter "MAX_RATE" (${MAX_RATE_LOWER} .. ${MAX_RATE_UPPER})`,
    { sqlState: '22003' },
  );
}

function scannedLsn(scanner: Scanner): Lsn {
  const text = scanner.string();
  const lsn = parseLsn(text);
  if (lsn === undefined) throw scanner.unexpected(text);
  return lsn;
}

function quote(text: string): string {
  return `'${text.replaceAll("'", "''")}'`;
}

function joinWords(words: readonly (string | false)[]): string {
  return words.filter((word) => word !== false).join(' ');
}
