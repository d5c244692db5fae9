/*
 * The options of `pgconvoy backup` as they are written: in pg_basebackup's groups and, where it has them, with its names
 * and words. Each value is parsed here; what they mean together is up to backup.ts.
 */
import { Option, type Command } from 'commander';
import type { ChecksumAlgorithm } from '../checksum.js';
import type { SyncMethod } from '../coordinator/backup-options.js';
import type { SourceChoice } from '../source/source-choice.js';
import type { TablespaceMapping } from '../target/tablespace-mapping.js';
import { parseCompression, type RequestedCompression } from './compression-option.js';
import { addConnectionOptions, type ConnectionFlags } from './connection-options.js';
import {
  defaultJobs,
  parseCheckpoint,
  parseFormat,
  parseJobs,
  parseManifestChecksums,
  parseMaxRate,
  parseMaxRetries,
  parseProgress,
  parseSourceChoice,
  parseStatusInterval,
  parseSyncMethod,
  parseTablespaceMapping,
  parseWalMethod,
  type BackupFormat,
  type WalMethod,
} from './option-values.js';

const DEFAULT_MAX_RETRIES = 3;
const DEFAULT_STATUS_INTERVAL_SECONDS = 10;

export interface BackupFlags extends ConnectionFlags {
  readonly pgdata?: string;
  readonly format?: BackupFormat;
  readonly gzip?: boolean;
  readonly compress?: RequestedCompression;
  /** "client", or what else was written: a backup target with its detail. */
  readonly target: string;
  /** The manifest of an earlier backup. */
  readonly incremental?: string;
  readonly source: SourceChoice;
  readonly jobs: number;
  readonly maxRetries: number;
  readonly maxRate?: number;
  readonly tablespaceMapping?: readonly TablespaceMapping[];
  readonly waldir?: string;
  readonly walMethod: WalMethod;
  readonly slot?: string;
  readonly createSlot?: boolean;
  /** False after --no-slot. */
  readonly useSlot?: boolean;
  /** Seconds. */
  readonly statusInterval: number;
  readonly writeRecoveryConf?: boolean;
  readonly checkpoint: boolean;
  readonly label: string;
  readonly clean: boolean;
  readonly sync: boolean;
  readonly syncMethod: SyncMethod;
  readonly progress?: 'text' | 'json';
  readonly report?: string;
  readonly verbose?: boolean;
  readonly estimateSize: boolean;
  readonly manifest: boolean;
  readonly manifestChecksums?: ChecksumAlgorithm;
  readonly manifestForceEncode?: boolean;
  readonly verifyChecksums: boolean;
}

export function addBackupOptions(command: Command): Command {
  addOutputOptions(command.optionsGroup('Options controlling the output:'));
  addGeneralOptions(command.optionsGroup('General options:'));
  return addConnectionOptions(command);
}

function addOutputOptions(command: Command): void {
  command
    .option('-D, --pgdata <directory>', 'receive base backup into directory')
    .addOption(new Option('-i, --incremental <oldmanifest>').hideHelp())
    .option('-F, --format <p|t>', 'output format (plain (default), tar)', parseFormat)
    .option(
      '-r, --max-rate <rate>',
      'maximum transfer rate of the whole backup (in kB/s, or use suffix "k" or "M")',
      parseMaxRate,
    )
    .option('-R, --write-recovery-conf', 'write configuration for replication')
    .option('-t, --target <client|blackhole>', 'backup target (if other than client)', 'client')
    .option(
      '-T, --tablespace-mapping <olddir=newdir>',
      'relocate tablespace in OLDDIR to NEWDIR',
      (text: string, all: readonly TablespaceMapping[] | undefined) => [
        ...(all ?? []),
        parseTablespaceMapping(text),
      ],
    )
    .option('--waldir <waldir>', 'location for the write-ahead log directory')
    .addOption(
      new Option('-X, --wal-method <none|fetch|stream>', 'include required WAL files with specified method')
        .argParser(parseWalMethod)
        .default('stream'),
    )
    .option('-z, --gzip', 'compress tar output')
    .option(
      '-Z, --compress <[client-]method[:detail]>',
      'compress tar output with gzip, lz4 or zstd, or not at all (none)',
      parseCompression,
    );
}

function addGeneralOptions(command: Command): void {
  command
    .addOption(
      new Option('-c, --checkpoint <fast|spread>', 'set fast or spread checkpointing')
        .argParser(parseCheckpoint)
        .default(false, 'spread'),
    )
    .option('-C, --create-slot', 'create replication slot')
    .option('-j, --jobs <n>', 'copy over this many connections at once', parseJobs, defaultJobs())
    .option('-l, --label <label>', 'set backup label', 'pgconvoy base backup')
    .option('-n, --no-clean', 'do not clean up after errors')
    .option('-N, --no-sync', 'do not wait for changes to be written safely to disk')
    .option('-P, --progress [json]', 'show progress information (with "json", as JSON lines)', parseProgress)
    .option(
      '-s, --status-interval <interval>',
      'time between status packets sent to server (in seconds)',
      parseStatusInterval,
      DEFAULT_STATUS_INTERVAL_SECONDS,
    )
    .option('-S, --slot <slotname>', 'replication slot to use')
    .option('-v, --verbose', 'output verbose messages')
    .option(
      '--manifest-checksums <SHA{224,256,384,512}|CRC32C|NONE>',
      'use algorithm for manifest checksums',
      parseManifestChecksums,
    )
    .option('--manifest-force-encode', 'hex encode all file names in manifest')
    .option(
      '--max-retries <n>',
      'how often a task may be repeated whose connection broke',
      parseMaxRetries,
      DEFAULT_MAX_RETRIES,
    )
    .option('--no-estimate-size', 'accepted for compatibility: the files are listed in any case')
    .option('--no-manifest', 'suppress generation of backup manifest')
    .addOption(noSlotOption())
    .option('--no-verify-checksums', 'do not verify checksums')
    .option('--report <file>', 'write a report to file, as JSON, however the backup ends')
    .addOption(
      new Option('--source <auto|walsender|sql>', 'read through the parallel backup commands or plain SQL')
        .argParser(parseSourceChoice)
        .default('auto'),
    )
    .addOption(
      new Option('--sync-method <fsync|syncfs>', 'set method for syncing files to disk')
        .argParser(parseSyncMethod)
        .default('fsync'),
    );
}

/** As --slot has a value, they are two options and not one: both may be given, which is an error. */
function noSlotOption(): Option {
  const option = new Option('--no-slot', 'prevent creation of temporary replication slot');
  return Object.assign(option, { attributeName: () => 'useSlot' });
}
