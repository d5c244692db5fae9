/*
 * --sync-method=syncfs: makes whole file systems durable in one go each, as sync_pgdata does with syncfs(2). Node has no
 * such call; `sync -f` of coreutils (and of busybox) makes it. Asked before the backup begins, used at its end.
 */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { ConvoyError, isSystemError } from '../errors.js';

const execute = promisify(execFile);

const PROGRAM = 'sync';

/** @throws ConvoyError `target_refused` where there is no program for it */
export async function refuseWithoutSyncfs(): Promise<void> {
  // busybox prints its help elsewhere, and fails
  const help = await execute(PROGRAM, ['--help']).catch((error: unknown) => error);
  const { stdout = '', stderr = '' } = help as { readonly stdout?: string; readonly stderr?: string };
  if (/(?:^|[\s[|])-f\b/m.test(`${stdout}${stderr}`)) return;
  throw new ConvoyError('target_refused', 'this system does not support sync method "syncfs"', {
    hint: 'the program "sync" with its option -f (coreutils 8.24 or newer) is needed; "fsync" works everywhere',
  });
}

/** @throws ConvoyError `target_io` */
export async function syncFileSystems(directories: readonly string[]): Promise<void> {
  try {
    await execute(PROGRAM, ['-f', '--', ...directories]);
  } catch (error) {
    const { stderr = '' } = error as { readonly stderr?: string };
    const reason = isSystemError(error, 'ENOENT') ? `"${PROGRAM}" not found` : stderr.trim();
    throw new ConvoyError('target_io', `could not synchronize file systems: ${reason}`, { cause: error });
  }
}
