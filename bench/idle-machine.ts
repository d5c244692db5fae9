/*
 * Waits until the machine has nothing to do: what a run leaves to the kernel (writing back, discarding freed blocks) is not the
 * next run's. Reads Linux's /proc/stat (proc(5)); elsewhere it does not wait.
 */
import { readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';

const SAMPLE_MS = 250;
const IDLE_SHARE = 0.97;
/** A machine that others use as well may never be idle. */
const LIMIT_MS = 10_000;

/** @returns false where the limit came first */
export async function waitUntilIdle(): Promise<boolean> {
  const endMs = performance.now() + LIMIT_MS;
  let before = readTicks();
  while (performance.now() < endMs) {
    // oxlint-disable-next-line eslint/no-await-in-loop
    await delay(SAMPLE_MS);
    const now = readTicks();
    if (now.all === 0 || now.idle - before.idle >= IDLE_SHARE * (now.all - before.all)) return true;
    before = now;
  }
  return false;
}

/** Time of all processors so far, in ticks; waiting for a disk is not idle. */
function readTicks(): { readonly idle: number; readonly all: number } {
  let text = '';
  try {
    text = readFileSync('/proc/stat', 'utf8');
  } catch {
    // another system
  }
  const [line = ''] = text.split('\n', 1);
  const ticks = (line.match(/\d+/g) ?? []).map(Number);
  return { idle: ticks[3] ?? 0, all: ticks.reduce((sum, count) => sum + count, 0) };
}
