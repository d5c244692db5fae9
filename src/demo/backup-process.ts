/* `pgconvoy backup` as a child process whose messages and progress the user sees: for the demo. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { forgetAtExit, signalAtExit, signalIfThere } from './left-at-exit.js';
import { PROGRAM_FILE } from './own-program.js';

const CANCEL_LIMIT_MS = 5000;

/**
 * Runs it to its end; the signal interrupts it as Ctrl-C does.
 *
 * @throws Error when it fails: it has said why, on standard error; the signal's reason when aborted
 */
export async function runBackup(
  args: readonly string[],
  env: NodeJS.ProcessEnv,
  signal: AbortSignal,
): Promise<void> {
  signal.throwIfAborted();
  // A session of its own, so that Ctrl-C on the terminal comes to it once, from here.
  const child = spawn(process.execPath, [PROGRAM_FILE, ...args], {
    env,
    stdio: ['ignore', 'inherit', 'inherit'],
    detached: true,
  });
  const cancel = (): void => interrupt(child);
  signal.addEventListener('abort', cancel);
  if (child.pid !== undefined) signalAtExit(-child.pid, 'SIGKILL');
  try {
    await once(child, 'exit');
  } finally {
    signal.removeEventListener('abort', cancel);
    if (child.pid !== undefined) forgetAtExit(-child.pid);
  }
  signal.throwIfAborted();
  if (child.exitCode !== 0) {
    throw new Error(`"pgconvoy backup" ended with ${child.signalCode ?? `status ${child.exitCode}`}`);
  }
}

function interrupt(child: ChildProcess): void {
  const { pid } = child;
  if (pid === undefined) return;
  child.kill('SIGINT');
  const limit = setTimeout(() => signalIfThere(-pid, 'SIGKILL'), CANCEL_LIMIT_MS);
  child.on('exit', () => clearTimeout(limit));
}
