/*
 * A base backup: the threads that copy start first, and everything else, told in backup-run.ts, is loaded while they do.
 * Called by the `backup` command and the public API.
 */
import { refuseUnlessEmpty } from '../target/directory-target.js';
import type { BackupEvents, BackupOptions, TargetOptions } from './backup-options.js';
import type { BackupReport } from './backup-report.js';
import { WorkerPool } from './worker-pool.js';

/**
 * Takes a base backup.
 *
 * @param signal aborts it; the reason is what the returned promise rejects with
 * @throws ConvoyError the first thing that went wrong; the target is removed then, unless `keepOnFailure`
 */
export async function backup(
  options: BackupOptions,
  events: BackupEvents,
  signal: AbortSignal,
): Promise<BackupReport> {
  signal.throwIfAborted();
  refuseUnlessNew(options.target);
  const pool = new WorkerPool(options.jobs, options.maxRetries);
  try {
    const { runBackup } = await import('./backup-run.js');
    signal.throwIfAborted();
    return await runBackup(options, events, pool, signal);
  } finally {
    await pool.stop();
  }
}

/** What is refused at once needs no threads. @throws ConvoyError `target_refused` */
function refuseUnlessNew(target: TargetOptions): void {
  if (target.kind === 'blackhole') return;
  if (target.directory !== undefined) refuseUnlessEmpty(target.directory);
  if (target.kind === 'directory' && target.walDirectory !== undefined)
    refuseUnlessEmpty(target.walDirectory);
}
