/*
 * Values of options, parsed and checked with pg_basebackup's words; used by the commands' options.
 * Every function throws ConvoyError `usage` naming the option.
 */
import { availableParallelism } from 'node:os';
import path from 'node:path';
import { CHECKSUM_ALGORITHMS, parseChecksumAlgorithm, type ChecksumAlgorithm } from '../checksum.js';
import type { SyncMethod } from '../coordinator/backup-options.js';
import { ConvoyError } from '../errors.js';
import { SOURCE_CHOICES, type SourceChoice } from '../source/source-choice.js';
import type { TablespaceMapping } from '../target/tablespace-mapping.js';

function usage(message: string, hint?: string): ConvoyError {
  return new ConvoyError('usage', message, { hint });
}

/** A whole number from `min` to `max`, as option_parse_int. */
export function parseInteger(option: string, min: number, max: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!/^\s*[+-]?\d+\s*$/.test(text)) throw usage(`invalid value "${text}" for option ${option}`);
    if (value < min || value > max) throw usage(`${option} must be in range ${min}..${max}`);
    return value;
  };
}

const MIN_RATE_KILOBYTES = 32;
const MAX_RATE_KILOBYTES = 1024 * 1024;

/** What strtod takes, without its hexadecimal numbers, infinities and NaN; then, after blanks, what it leaves. */
const RATE = /^\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)\s*(.*)$/is;

/** parse_max_rate: kilobytes, or with a suffix k or M. @returns bytes per second */
export function parseMaxRate(text: string): number {
  const [, digits, suffix = ''] = RATE.exec(text) ?? [];
  if (digits === undefined) throw usage(`transfer rate "${text}" is not a valid value`);
  const number = Number(digits);
  if (!Number.isFinite(number)) throw usage(`invalid transfer rate "${text}": Numerical result out of range`);
  if (number <= 0) throw usage('transfer rate must be greater than zero');
  if (!/^[kM]?\s*$/.test(suffix)) throw usage(`invalid --max-rate unit: "${suffix}"`);
  const kilobytes = number * (suffix.startsWith('M') ? 1024 : 1);
  if (kilobytes >= 2 ** 32 && kilobytes < 2 ** 64)
    throw usage(`transfer rate "${text}" exceeds integer range`);
  if (kilobytes < MIN_RATE_KILOBYTES || kilobytes > MAX_RATE_KILOBYTES) {
    throw usage(`transfer rate "${text}" is out of range`, 'between 32 kilobytes and 1 gigabyte a second');
  }
  return Math.floor(kilobytes) * 1024;
}

/** tablespace_list_append: OLD=NEW, both absolute, `\=` for an equals sign. */
export function parseTablespaceMapping(text: string): TablespaceMapping {
  const parts = text.split(/(?<!\\)=/);
  const [from, to] = parts.map((part) => part.replaceAll(String.raw`\=`, '='));
  if (parts.length > 2) throw usage('multiple "=" signs in tablespace mapping');
  if (from === undefined || to === undefined || from === '' || to === '') {
    throw usage(`invalid tablespace mapping format "${text}", must be "OLDDIR=NEWDIR"`);
  }
  if (!path.isAbsolute(from))
    throw usage(`old directory is not an absolute path in tablespace mapping: ${from}`);
  if (!path.isAbsolute(to)) throw usage(`new directory is not an absolute path in tablespace mapping: ${to}`);
  return { from: canonical(from), to: canonical(to) };
}

/** canonicalize_path: no "." or "..", no slash at the end. */
export function canonical(absolutePath: string): string {
  const normal = path.normalize(absolutePath);
  return normal.length > 1 && normal.endsWith('/') ? normal.slice(0, -1) : normal;
}

/** --waldir. */
export function parseWalDirectory(text: string): string {
  if (!path.isAbsolute(text)) throw usage('WAL directory location must be an absolute path');
  return canonical(text);
}

export type BackupFormat = 'plain' | 'tar';

/** Names may be cut to their first letter, as pg_basebackup allows for -F. */
export function parseFormat(text: string): BackupFormat {
  switch (text) {
    case 'p':
    case 'plain':
      return 'plain';
    case 't':
    case 'tar':
      return 'tar';
    default:
      throw usage(`invalid output format "${text}", must be "plain" or "tar"`);
  }
}

/** How the WAL comes along: -X. */
export type WalMethod = 'stream' | 'fetch' | 'none';

/** Names may be cut to their first letter, as pg_basebackup allows for -X. */
export function parseWalMethod(text: string): WalMethod {
  switch (text) {
    case 'f':
    case 'fetch':
      return 'fetch';
    case 'n':
    case 'none':
      return 'none';
    case 's':
    case 'stream':
      return 'stream';
    default:
      throw usage(`invalid wal-method option "${text}", must be "fetch", "stream", or "none"`);
  }
}

/** @returns true for a fast checkpoint */
export function parseCheckpoint(text: string): boolean {
  if (text.toLowerCase() === 'fast') return true;
  if (text.toLowerCase() === 'spread') return false;
  throw usage(`invalid checkpoint argument "${text}", must be "fast" or "spread"`);
}

/** INT_MAX milliseconds. */
const MAX_STATUS_INTERVAL_SECONDS = 2_147_483;

/** -s: seconds. */
export const parseStatusInterval = parseInteger('-s/--status-interval', 0, MAX_STATUS_INTERVAL_SECONDS);

export function parseManifestChecksums(text: string): ChecksumAlgorithm {
  const algorithm = parseChecksumAlgorithm(text);
  if (algorithm !== undefined) return algorithm;
  throw usage(`unrecognized checksum algorithm: "${text}"`, `one of ${CHECKSUM_ALGORITHMS.join(', ')}`);
}

/**
 * -t TARGET[:DETAIL] as far as this is another than the client, with the words of the server's basebackup_target.c: where
 * pg_basebackup would ask it, once all options are held against each other.
 */
export function refuseBackupTarget(text: string): void {
  const [name = '', detail] = text.split(/:(.*)/s);
  if (name === 'server') {
    throw usage(
      'backup target "server" is not supported: the files come to this machine, over several connections',
      'run pgconvoy on the server, or take such a backup with pg_basebackup',
    );
  }
  if (name !== 'client' && name !== 'blackhole') throw usage(`unrecognized target: "${name}"`);
  if (detail !== undefined) throw usage(`target "${name}" does not accept a target detail`);
}

export function parseSourceChoice(text: string): SourceChoice {
  const found = SOURCE_CHOICES.find((choice) => choice === text);
  if (found !== undefined) return found;
  throw usage(`invalid source "${text}", must be "auto", "walsender", or "sql"`);
}

/** parse_sync_method. */
export function parseSyncMethod(text: string): SyncMethod {
  if (text === 'fsync' || text === 'syncfs') return text;
  throw usage(`unrecognized sync method: ${text}`);
}

/** -P, for people, or --progress=json. */
export function parseProgress(text: string | undefined): 'text' | 'json' {
  if (text === undefined) return 'text';
  if (text === 'json') return text;
  throw usage(`invalid progress style "${text}", must be "json"`);
}

/** -F of pg_verifybackup. */
export function parseBackupFormat(text: string): 'plain' | 'tar' {
  if (text === 'p' || text === 'plain') return 'plain';
  if (text === 't' || text === 'tar') return 'tar';
  throw usage(`invalid backup format "${text}", must be "plain" or "tar"`);
}

const MAX_RETRIES = 1000;

export const parseMaxRetries = parseInteger('--max-retries', 0, MAX_RETRIES);

const MAX_JOBS = 512;
const DEFAULT_MAX_JOBS = 8;

/** -j: connections, and threads, of a backup. */
export const parseJobs = parseInteger('-j/--jobs', 1, MAX_JOBS);

/** One for each processor, up to eight: a server has other things to do. */
export function defaultJobs(): number {
  return Math.min(availableParallelism(), DEFAULT_MAX_JOBS);
}
