/*
 * A base backup: the threads that copy start first, and everything else, told in backup-run.ts, is loaded while they do.
 * Called by the `backup` command and the public API.
 */
import type { BackupEvents, BackupOptions } from './backup-options.js';
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
  const pool = new WorkerPool(options.jobs, options.maxRetries);
  try {
    const { runBackup } = await import('./backup-run.js');
    return await runBackup(options, events, pool, signal);
  } finally {
    await pool.stop();
  }
}
