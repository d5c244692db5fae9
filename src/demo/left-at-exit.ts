/*
 * What must not outlive this process, however it ends: servers, other child processes and temporary directories.
 * Disposing is the ordinary way; this is for the ways past it. Used by whatever starts a child or makes a directory.
 */
import { rmSync } from 'node:fs';
import * as fs from 'node:fs/promises';

const directories = new Set<string>();
const children = new Map<number, NodeJS.Signals>();
let isWatching = false;

/** Has the directory removed when this process ends, however it ends, after its servers were told to stop. */
export function removeAtExit(directory: string): void {
  watchExit();
  directories.add(directory);
}

/** Removes the directory now, and no more at the end of the process. */
export async function removeDirectory(directory: string): Promise<void> {
  await fs.rm(directory, { recursive: true, force: true, maxRetries: 3 });
  directories.delete(directory);
}

/** Has the signal sent to the child when this process ends before it; a negative pid names a process group. */
export function signalAtExit(pid: number, signal: NodeJS.Signals): void {
  watchExit();
  children.set(pid, signal);
}

/** The child has ended: its pid may soon be another's. */
export function forgetAtExit(pid: number): void {
  children.delete(pid);
}

export function signalIfThere(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // It has ended already.
  }
}

function watchExit(): void {
  if (isWatching) return;
  isWatching = true;
  process.on('exit', endAll);
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    const end = (): void => {
      // Somebody else's listener decides what the signal means; alone, it means what it always does.
      if (process.listenerCount(signal) > 1) return;
      endAll();
      process.removeListener(signal, end);
      process.kill(process.pid, signal);
    };
    process.on(signal, end);
  }
}

function endAll(): void {
  for (const [pid, signal] of children) signalIfThere(pid, signal);
  for (const directory of directories) {
    try {
      rmSync(directory, { recursive: true, force: true, maxRetries: 3 });
    } catch {
      // A server that is still ending made a file in it: the system's temporary directory keeps it.
    }
  }
}
