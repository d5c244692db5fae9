/*
 * Runs programs for tests: PostgreSQL's own tools, which come from Debian's postgresql-15 as the npm packages hold
 * none of them, and any other command.
 */
import { spawn } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import path from 'node:path';
import type { ServerAccount } from '../../src/demo/server-account.js';

export interface RunOptions {
  /** Added to this process's environment without its PG* variables. */
  readonly env?: Readonly<Record<string, string>>;
  /** As root: the account to run as, for what refuses root or must own its files. */
  readonly account?: ServerAccount | undefined;
  readonly cwd?: string;
  /** Written to standard input, which is empty otherwise. */
  readonly input?: string;
  /** 120 s unless given. */
  readonly timeoutMs?: number;
  /** Ends the program with SIGTERM; `status` is null then. */
  readonly signal?: AbortSignal;
}

export interface RunResult {
  /** Exit status, null after a signal. */
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

const DEBIAN_BIN = '/usr/lib/postgresql/15/bin';

/** The path of one of PostgreSQL's tools: Debian's postgresql-15, else the first in PATH, else undefined. */
export function tool(name: string): string | undefined {
  const directories = [DEBIAN_BIN, ...(process.env['PATH'] ?? '').split(path.delimiter)];
  return directories
    .filter((directory) => directory !== '')
    .map((directory) => path.join(directory, name))
    .find((file) => isExecutable(file));
}

/**
 * A pg_verifybackup that reads archives, as 18's and newer do: what PG_VERIFYBACKUP_18 names (.ci/run sets it), else Debian's
 * postgresql-18; else undefined.
 */
export function archiveVerifier(): string | undefined {
  const named = process.env['PG_VERIFYBACKUP_18'];
  if (named !== undefined && named !== '') return named;
  return ['/usr/lib/postgresql/18/bin/pg_verifybackup'].find((file) => isExecutable(file));
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** What to say where a tool is missing. */
export function missingTool(name: string): string {
  return `postgresql-15 is not installed: ${name} not found`;
}

/** The tool's path; where it is missing, marks the test as skipped and returns undefined: the test returns then. */
export function requireTool(t: { skip(message: string): void }, name: string): string | undefined {
  const found = tool(name);
  if (found === undefined) t.skip(missingTool(name));
  return found;
}

/**
 * Runs a program to its end.
 *
 * @throws Error when it cannot be started, or has not ended in time (it is killed then; the error holds its output).
 */
export function run(command: string, args: readonly string[], options: RunOptions = {}): Promise<RunResult> {
  const { account, cwd, input, timeoutMs = 120_000, signal } = options;
  const inherited = Object.entries(process.env).filter(([name]) => !name.startsWith('PG'));
  const child = spawn(command, args, {
    env: { ...Object.fromEntries(inherited), LC_ALL: 'C', ...options.env },
    ...(account === undefined ? {} : { uid: account.uid, gid: account.gid, cwd: '/' }),
    ...(cwd === undefined ? {} : { cwd }),
  });
  const output = { stdout: [] as Buffer[], stderr: [] as Buffer[] };
  child.stdout.on('data', (chunk: Buffer) => output.stdout.push(chunk));
  child.stderr.on('data', (chunk: Buffer) => output.stderr.push(chunk));
  // A program that does not read its input is no error of ours.
  child.stdin.on('error', () => undefined);
  child.stdin.end(input);
  const stop = (): void => void child.kill('SIGTERM');
  signal?.addEventListener('abort', stop, { once: true });
  return new Promise((resolve, reject) => {
    let late = false;
    const limit = setTimeout(() => {
      late = true;
      child.kill('SIGKILL');
    }, timeoutMs);
    const settle = (): void => {
      clearTimeout(limit);
      signal?.removeEventListener('abort', stop);
    };
    child.on('error', (error) => {
      settle();
      reject(error);
    });
    child.on('close', (status) => {
      settle();
      const stdout = Buffer.concat(output.stdout).toString();
      const stderr = Buffer.concat(output.stderr).toString();
      if (!late) resolve({ status, stdout, stderr });
      else reject(new Error(`${command} has not ended in ${timeoutMs / 1000} s\n${stdout}${stderr}`));
    });
  });
}
