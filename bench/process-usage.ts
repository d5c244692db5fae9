/* Memory and processor time of processes, from Linux's /proc (proc(5)); zero where there is no such thing. */
import { readFileSync, writeFileSync } from 'node:fs';

/** USER_HZ, which the kernel has fixed at 100 for programs on every architecture that Node.js runs on. */
const TICKS_PER_SECOND = 100;

export interface Usage {
  /** Highest resident size so far, of all threads together. */
  readonly peakBytes: number;
  /** User and system time so far. */
  readonly cpuSeconds: number;
}

/** Undefined once the process has ended. */
export function readUsage(pid: number): Usage | undefined {
  const status = readProc(`${pid}/status`);
  const stat = readProc(`${pid}/stat`);
  const peak = /^VmHWM:\s+(\d+) kB$/m.exec(status)?.[1];
  if (peak === undefined) return undefined;
  // fields 14 and 15, counted from behind the command's name, which may hold anything
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const ticks = Number(fields[11] ?? 0) + Number(fields[12] ?? 0);
  return { peakBytes: Number(peak) * 1024, cpuSeconds: ticks / TICKS_PER_SECOND };
}

/** The process and all its descendants. */
export function processTree(pid: number): number[] {
  const children = readProc(`${pid}/task/${pid}/children`);
  const pids = children.split(' ').filter((word) => word.trim() !== '');
  return [pid, ...pids.flatMap((child) => processTree(Number(child)))];
}

/** Of the process and its descendants together; the peaks may have been at different times. */
export function readTreeUsage(pid: number): Usage {
  const usages = processTree(pid).map((one) => readUsage(one) ?? { peakBytes: 0, cpuSeconds: 0 });
  return {
    peakBytes: usages.reduce((sum, usage) => sum + usage.peakBytes, 0),
    cpuSeconds: usages.reduce((sum, usage) => sum + usage.cpuSeconds, 0),
  };
}

/** Has the peaks start again from the present size. */
export function resetTreePeaks(pid: number): void {
  for (const one of processTree(pid)) {
    try {
      writeFileSync(`/proc/${one}/clear_refs`, '5');
    } catch {
      // Another system, or it has just ended: the peak stays that of its whole life.
    }
  }
}

function readProc(name: string): string {
  try {
    return readFileSync(`/proc/${name}`, 'utf8');
  } catch {
    return '';
  }
}
