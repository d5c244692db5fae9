/* Runs one program to its end and measures it. */
import { spawn } from 'node:child_process';
import { readUsage, type Usage } from './process-usage.js';

const POLL_MS = 50;
const OUTPUT_TAIL_CHARACTERS = 4096;

export interface Command {
  readonly file: string;
  readonly args: readonly string[];
  readonly env: NodeJS.ProcessEnv;
}

export interface Measured extends Usage {
  readonly seconds: number;
}

/**
 * The peak is read every 50 ms: the kernel keeps the highest value, so that only what is reached in the last moment
 * can be missed.
 *
 * @throws Error with the end of its output when it does not end with status 0
 */
export async function runMeasured({ file, args, env }: Command): Promise<Measured> {
  const startedMs = performance.now();
  const child = spawn(file, args, { env, stdio: ['ignore', 'ignore', 'pipe'] });
  let output = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    output = (output + text).slice(-OUTPUT_TAIL_CHARACTERS);
  });
  let usage: Usage = { peakBytes: 0, cpuSeconds: 0 };
  const poll = setInterval(() => {
    usage = readUsage(child.pid ?? 0) ?? usage;
  }, POLL_MS);
  try {
    let endedMs = startedMs;
    child.on('exit', () => (endedMs = performance.now()));
    const status = await new Promise<number | null>((resolve, reject) => {
      child.on('error', reject);
      child.on('close', resolve);
    });
    if (status !== 0) throw new Error(`${file} ${args.join(' ')} ended with status ${status}\n${output}`);
    return { ...usage, seconds: (endedMs - startedMs) / 1000 };
  } finally {
    clearInterval(poll);
  }
}
