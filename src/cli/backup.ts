/* `pgconvoy backup`: pg_basebackup's options, resolved into BackupOptions, and the exit status. */
import path from 'node:path';
import { Command } from 'commander';
import { assertNever } from '../assert-never.js';
import { backup } from '../coordinator/backup.js';
import type { BackupEvents, BackupOptions, TargetOptions } from '../coordinator/backup-options.js';
import type { BackupReport } from '../coordinator/backup-report.js';
import { asConvoyError, ConvoyError } from '../errors.js';
import { addBackupOptions, type BackupFlags } from './backup-flags.js';
import { NO_COMPRESSION } from '../target/compression/compression.js';
import { completedReport, failedReport, reportLines, type BackupRecord } from './backup-report-text.js';
import type { SlotChoice } from '../wal/replication-slot.js';
import { cancelOnSignals } from './cancel-on-signals.js';
import { requestedCompression } from './compression-option.js';
import { connectionFrom } from './connection-options.js';
import { refuseContradictions, refuseUnsupported } from './contradictions.js';
import { printDetail, printError, printWarning } from './messages.js';
import { canonical, parseWalDirectory } from './option-values.js';
import { createProgressDisplay } from './progress-display.js';
import { ReportFile } from './report-file.js';

/** A label is one line of at most this (MAXPGPATH, do_pg_backup_start). */
const MAX_LABEL_BYTES = 1024;

/** Warnings that a report repeats; a damaged cluster may bring millions. */
const MAX_REPORTED_WARNINGS = 1000;

export function backupCommand(): Command {
  const command = new Command('backup')
    .description('take a base backup of a running PostgreSQL server over several connections at once')
    .action(runBackup);
  return addBackupOptions(command);
}

async function runBackup(flags: BackupFlags): Promise<void> {
  refuseContradictions(flags);
  refuseUnsupported(flags);
  const startedAt = new Date();
  const options = await resolveOptions(flags);
  // as pg_basebackup: what is written belongs to its owner alone, but where the server's own files do not
  process.umask(0o077);
  const reportFile =
    flags.report === undefined ? undefined : new ReportFile(flags.report, directoriesOf(options));
  const { events, warnings } = eventsFor(flags);
  const { signal, dispose } = cancelOnSignals();
  const record = (): BackupRecord => ({ startedAt, endedAt: new Date(), label: flags.label, warnings });
  try {
    const report = await backup(options, events, signal);
    for (const line of reportLines(report)) events.detail(line);
    reportFile?.write(completedReport(report, record()));
    sayWhatWasOdd(report);
  } catch (error) {
    writeFailure(reportFile, asConvoyError(error, 'worker_failed'), record());
    throw error;
  } finally {
    dispose();
  }
}

function sayWhatWasOdd({ retries, hasBadPages }: BackupReport): void {
  if (retries === 1) printWarning('1 task was repeated after its connection broke');
  else if (retries > 1) printWarning(`${retries} tasks were repeated after their connections broke`);
  if (!hasBadPages) return;
  printError('checksum error occurred');
  process.exitCode = 1;
}

/** The failure itself is what the user is told last. */
function writeFailure(file: ReportFile | undefined, failure: ConvoyError, record: BackupRecord): void {
  try {
    file?.write(failedReport(failure, record));
  } catch (error) {
    printWarning(asConvoyError(error, 'target_io').message);
  }
}

function eventsFor(flags: BackupFlags): {
  readonly events: BackupEvents;
  readonly warnings: readonly string[];
} {
  const display =
    flags.progress === undefined
      ? undefined
      : createProgressDisplay(process.stderr, flags.progress === 'json');
  const warnings: string[] = [];
  const notice = (message: string): void => {
    display?.clear();
    printDetail(message);
  };
  const events: BackupEvents = {
    notice,
    detail: (message) => {
      if (flags.verbose === true) notice(message);
    },
    warning: (message) => {
      display?.clear();
      printWarning(message);
      if (warnings.length < MAX_REPORTED_WARNINGS) warnings.push(message);
    },
    phaseStarted: (phase) => display?.phase(phase),
    copyStarted: (totals, read) => display?.start(totals, read),
    copyEnded: () => display?.stop(),
  };
  return { events, warnings };
}

/** Where no file that is not the backup's may lie. */
function directoriesOf({ target }: BackupOptions): string[] {
  switch (target.kind) {
    case 'directory': {
      const { directory, walDirectory, tablespaceMappings } = target;
      const walDirectories = walDirectory === undefined ? [] : [walDirectory];
      return [directory, ...walDirectories, ...tablespaceMappings.map(({ to }) => to)];
    }
    case 'archive':
      return target.directory === undefined ? [] : [target.directory];
    case 'blackhole':
      return [];
    default:
      return assertNever(target);
  }
}

function resolveTarget(flags: BackupFlags): TargetOptions {
  const { pgdata, format, tablespaceMapping = [], waldir } = flags;
  if (pgdata === undefined) return { kind: 'blackhole' };
  if (pgdata === '') throw new ConvoyError('usage', 'option -D needs a directory');
  if (format === 'tar') return resolveArchive(pgdata, flags);
  if (pgdata === '-') {
    throw new ConvoyError('usage', 'cannot write to "-": only tar mode backups go to standard output');
  }
  return {
    kind: 'directory',
    directory: canonical(path.resolve(pgdata)),
    tablespaceMappings: tablespaceMapping,
    walDirectory: waldir === undefined ? undefined : parseWalDirectory(waldir),
  };
}

function resolveArchive(pgdata: string, flags: BackupFlags): TargetOptions {
  if (flags.tablespaceMapping !== undefined) {
    printWarning('option -T has no effect on tar archives: it takes effect where they are restored');
  }
  const compression = requestedCompression(flags);
  if (compression?.hasWorkers === true) {
    printWarning('compression option "workers" has no effect: option -j says how many compress');
  }
  if (compression?.hasLongDistance === true) {
    printWarning('compression option "long" has no effect: what is compressed at once is 1 MB');
  }
  return {
    kind: 'archive',
    directory: pgdata === '-' ? undefined : canonical(path.resolve(pgdata)),
    compression:
      compression === undefined ? NO_COMPRESSION : { method: compression.method, level: compression.level },
  };
}

function resolveWal(flags: BackupFlags): BackupOptions['wal'] {
  const { walMethod, statusInterval } = flags;
  if (walMethod !== 'stream') return walMethod;
  return { slot: resolveSlot(flags), statusIntervalMs: statusInterval * 1000 };
}

function resolveSlot({ slot: name, createSlot: create = false, useSlot }: BackupFlags): SlotChoice {
  if (name !== undefined) return { kind: 'named', name, create };
  return { kind: useSlot === false ? 'none' : 'temporary' };
}

async function resolveOptions(flags: BackupFlags): Promise<BackupOptions> {
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
    maxRetries: flags.maxRetries,
    label: flags.label,
    fastCheckpoint: flags.checkpoint,
    wal: resolveWal(flags),
    manifestChecksums: flags.manifest ? (flags.manifestChecksums ?? 'CRC32C') : undefined,
    encodeManifestPaths: flags.manifestForceEncode === true,
    verifyPageChecksums: flags.verifyChecksums,
    maxRateBytesPerSecond: flags.maxRate,
    recoveryConf: flags.writeRecoveryConf === true ? { primaryConninfo } : undefined,
    sync: flags.sync,
    syncMethod: flags.syncMethod,
    keepOnFailure: !flags.clean,
  };
}
