/* `pgconvoy backup`: pg_basebackup's options, resolved into BackupOptions, and the exit status. */
import path from 'node:path';
import { Command } from 'commander';
import { backup } from '../coordinator/backup.js';
import type { BackupEvents, BackupOptions, TargetOptions } from '../coordinator/backup-options.js';
import { ConvoyError } from '../errors.js';
import { addBackupOptions, type BackupFlags } from './backup-flags.js';
import { NO_COMPRESSION } from '../target/compression/compression.js';
import { cancelOnSignals } from './cancel-on-signals.js';
import { requestedCompression } from './compression-option.js';
import { connectionFrom } from './connection-options.js';
import { refuseContradictions } from './contradictions.js';
import { printDetail, printError, printWarning } from './messages.js';
import { canonical, parseWalDirectory } from './option-values.js';
import { createProgressDisplay } from './progress-display.js';

/** A label is one line of at most this (MAXPGPATH, do_pg_backup_start). */
const MAX_LABEL_BYTES = 1024;

export function backupCommand(): Command {
  const command = new Command('backup')
    .description('take a base backup of a running PostgreSQL server over several connections at once')
    .action(runBackup);
  return addBackupOptions(command);
}

async function runBackup(flags: BackupFlags): Promise<void> {
  refuseContradictions(flags);
  const options = await resolveOptions(flags);
  // as pg_basebackup: what is written belongs to its owner alone, but where the server's own files do not
  process.umask(0o077);
  const display =
    flags.progress === undefined
      ? undefined
      : createProgressDisplay(process.stderr, flags.progress === 'json');
  const events: BackupEvents = {
    notice(message) {
      display?.clear();
      printDetail(message);
    },
    detail(message) {
      if (flags.verbose === true) this.notice(message);
    },
    warning(message) {
      display?.clear();
      printWarning(message);
    },
    phaseStarted: (phase) => display?.phase(phase),
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
  if (pgdata === '-') throw new ConvoyError('usage', 'standard output is not supported yet');
  if (compression !== undefined && compression.method !== 'none') {
    throw new ConvoyError('usage', 'compression is not supported yet');
  }
  return {
    kind: 'archive',
    directory: pgdata === '-' ? undefined : canonical(path.resolve(pgdata)),
    compression:
      compression === undefined ? NO_COMPRESSION : { method: compression.method, level: compression.level },
  };
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
    wal: flags.walMethod,
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
