/* `pgconvoy backup`: pg_basebackup's options, resolved into BackupOptions, and the exit status. */
import path from 'node:path';
import { Command, Option } from 'commander';
import { backup } from '../coordinator/backup.js';
import type { BackupEvents, BackupOptions, TargetOptions } from '../coordinator/backup-options.js';
import type { ChecksumAlgorithm } from '../checksum.js';
import { ConvoyError } from '../errors.js';
import { SOURCE_CHOICES, type SourceChoice } from '../source/open-source.js';
import type { TablespaceMapping } from '../target/tablespace-mapping.js';
import { cancelOnSignals } from './cancel-on-signals.js';
import { connectionFrom, type ConnectionFlags, addConnectionOptions } from './connection-options.js';
import { printDetail, printError, printWarning } from './messages.js';
import {
  canonical,
  parseCheckpoint,
  parseJobs,
  defaultJobs,
  parseManifestChecksums,
  parseMaxRate,
  parseTablespaceMapping,
  parseWalDirectory,
  parseWalMethod,
} from './option-values.js';
import { createProgressDisplay } from './progress-display.js';

/** A label is one line of at most this (MAXPGPATH, do_pg_backup_start). */
const MAX_LABEL_BYTES = 1024;

interface BackupFlags extends ConnectionFlags {
  readonly pgdata?: string;
  readonly target: 'client' | 'blackhole';
  readonly source: SourceChoice;
  readonly jobs: number;
  readonly maxRate?: number;
  readonly tablespaceMapping?: readonly TablespaceMapping[];
  readonly waldir?: string;
  readonly walMethod: 'fetch' | 'none';
  readonly writeRecoveryConf?: boolean;
  readonly checkpoint: boolean;
  readonly label: string;
  readonly clean: boolean;
  readonly sync: boolean;
  readonly progress?: boolean;
  readonly verbose?: boolean;
  readonly manifest: boolean;
  readonly manifestChecksums?: ChecksumAlgorithm;
  readonly verifyChecksums: boolean;
}

export function backupCommand(): Command {
  const command = new Command('backup')
    .description('take a base backup of a running PostgreSQL server over several connections at once')
    .optionsGroup('Options controlling the output:')
    .option('-D, --pgdata <directory>', 'receive base backup into directory')
    .addOption(
      new Option(
        '-t, --target <target>',
        'where the backup goes: "client", or "blackhole" to read and keep nothing',
      )
        .choices(['client', 'blackhole'])
        .default('client'),
    )
    .option(
      '-r, --max-rate <rate>',
      'maximum transfer rate of the whole backup (in kB/s, or use suffix "k" or "M")',
      parseMaxRate,
    )
    .option('-R, --write-recovery-conf', 'write configuration for replication')
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
      new Option('-X, --wal-method <none|fetch>', 'include required WAL files with specified method')
        .argParser(parseWalMethod)
        .default('fetch'),
    )
    .optionsGroup('General options:')
    .option('-j, --jobs <n>', 'copy over this many connections at once', parseJobs, defaultJobs())
    .addOption(
      new Option('-c, --checkpoint <fast|spread>', 'set fast or spread checkpointing')
        .argParser(parseCheckpoint)
        .default(false, 'spread'),
    )
    .addOption(
      new Option('--source <kind>', 'read through the parallel backup commands or plain SQL')
        .choices(SOURCE_CHOICES)
        .default('auto'),
    )
    .option('-l, --label <label>', 'set backup label', 'pgconvoy base backup')
    .option('-n, --no-clean', 'do not clean up after errors')
    .option('-N, --no-sync', 'do not wait for changes to be written safely to disk')
    .option('-P, --progress', 'show progress information')
    .option('-v, --verbose', 'output verbose messages')
    .option(
      '--manifest-checksums <algorithm>',
      'use algorithm for manifest checksums (default: CRC32C)',
      parseManifestChecksums,
    )
    .option('--no-manifest', 'suppress generation of backup manifest')
    .option('--no-verify-checksums', 'do not verify checksums')
    .allowExcessArguments(false)
    .action(runBackup);
  return addConnectionOptions(command);
}

async function runBackup(flags: BackupFlags): Promise<void> {
  const options = await resolveOptions(flags);
  // as pg_basebackup: what is written belongs to its owner alone, but where the server's own files do not
  process.umask(0o077);
  const display = flags.progress === true ? createProgressDisplay(process.stderr) : undefined;
  const events: BackupEvents = {
    notice: printDetail,
    detail: (message) => {
      if (flags.verbose === true) printDetail(message);
    },
    warning: printWarning,
    copyStarted: (totals, read) => display?.start(totals, read),
    copyEnded: () => display?.stop(),
  };
  const { signal, dispose } = cancelOnSignals();
  try {
    const report = await backup(options, events, signal);
    if (report.retries === 1) printWarning('1 task was repeated after its connection broke');
    else if (report.retries > 1)
      printWarning(`${report.retries} tasks were repeated after their connections broke`);
    if (!report.hasBadPages) return;
    printError('checksum error occurred');
    process.exitCode = 1;
  } finally {
    dispose();
  }
}

/** After pg_basebackup's checks of -D, -t and -T, with its words. */
function resolveTarget(flags: BackupFlags): TargetOptions {
  const { pgdata, target, tablespaceMapping = [], waldir, writeRecoveryConf } = flags;
  if (target === 'blackhole') {
    if (pgdata !== undefined)
      throw new ConvoyError('usage', 'cannot specify both output directory and backup target');
    if (waldir !== undefined)
      throw new ConvoyError('usage', 'WAL directory location cannot be specified along with a backup target');
    if (writeRecoveryConf === true)
      throw new ConvoyError('usage', 'recovery configuration cannot be written when a backup target is used');
    return { kind: 'blackhole' };
  }
  if (pgdata === undefined) throw new ConvoyError('usage', 'must specify output directory or backup target');
  if (pgdata === '' || pgdata === '-') {
    throw new ConvoyError('usage', `cannot write to "${pgdata}": option -D needs a directory`);
  }
  return {
    kind: 'directory',
    directory: canonical(path.resolve(pgdata)),
    tablespaceMappings: tablespaceMapping,
    walDirectory: waldir === undefined ? undefined : parseWalDirectory(waldir),
  };
}

async function resolveOptions(flags: BackupFlags): Promise<BackupOptions> {
  if (!flags.manifest && flags.manifestChecksums !== undefined) {
    throw new ConvoyError('usage', '--no-manifest and --manifest-checksums are incompatible options');
  }
  if (/[\r\n]/.test(flags.label) || Buffer.byteLength(flags.label) > MAX_LABEL_BYTES) {
    throw new ConvoyError('usage', `option -l: a label is one line of at most ${MAX_LABEL_BYTES} bytes`);
  }
  const target = resolveTarget(flags);
  const { connection, askPassword, primaryConninfo } = await connectionFrom(flags);
  return {
    connection,
    source: flags.source,
    askPassword,
    target,
    jobs: flags.jobs,
    label: flags.label,
    fastCheckpoint: flags.checkpoint,
    wal: flags.walMethod,
    manifestChecksums: flags.manifest ? (flags.manifestChecksums ?? 'CRC32C') : undefined,
    verifyPageChecksums: flags.verifyChecksums,
    maxRateBytesPerSecond: flags.maxRate,
    recoveryConf: flags.writeRecoveryConf === true ? { primaryConninfo } : undefined,
    sync: flags.sync,
    keepOnFailure: !flags.clean,
  };
}
