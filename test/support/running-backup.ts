/* A `pgconvoy backup` while it runs: what it has printed so far, signals, and its end. */
import { spawn, type ChildProcess } from 'node:child_process';
import assert from 'node:assert/strict';
import type { ServerAccount } from '../../src/demo/server-account.js';
import { cleanup, type TestScope } from './cleanup.js';
import { PROGRAM } from './pgconvoy.js';
import type { RunResult } from './tools.js';

export interface BackupEnvironment {
  /** Added to this process's environment without its PG* variables. */
  readonly env?: Readonly<Record<string, string>>;
  /** As root: the account to run as. */
  readonly account?: ServerAccount | undefined;
}

const LINE_LIMIT_MS = 30_000;
const END_LIMIT_MS = 60_000;

export class RunningBackup {
  /** Ends without a status where a signal killed it. */
  readonly ended: Promise<RunResult>;
  readonly #child: ChildProcess;
  #stderr = '';
  #stdout = '';
  #onOutput: () => void = () => {};

  /** Starts `pgconvoy backup <args>`; it is killed with the test. */
  static start(t: TestScope, args: readonly string[], options: BackupEnvironment = {}): RunningBackup {
    const running = new RunningBackup(args, options);
    cleanup(t, async () => {
      running.kill('SIGKILL');
      await running.ended;
    });
    return running;
  }

  private constructor(args: readonly string[], { env, account }: BackupEnvironment) {
    const inherited = Object.entries(process.env).filter(([name]) => !name.startsWith('PG'));
    this.#child = spawn(process.execPath, [PROGRAM, 'backup', ...args], {
      env: { ...Object.fromEntries(inherited), ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
      ...(account === undefined ? {} : { uid: account.uid, gid: account.gid, cwd: '/' }),
    });
    this.#child.stdout?.setEncoding('utf8').on('data', (text: string) => (this.#stdout += text));
    this.#child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#stderr += text;
      this.#onOutput();
    });
    this.ended = new Promise((resolve, reject) => {
      const limit = setTimeout(() => {
        this.kill('SIGKILL');
        reject(new Error(`pgconvoy backup has not ended in ${END_LIMIT_MS / 1000} s:\n${this.#stderr}`));
      }, END_LIMIT_MS);
      this.#child.once('error', reject);
      this.#child.once('close', (status) => {
        clearTimeout(limit);
        this.#onOutput();
        resolve({ status, stdout: this.#stdout, stderr: this.#stderr });
      });
    });
  }

  /** What it has printed on standard error so far. */
  get stderr(): string {
    return this.#stderr;
  }

  /** Returns once it has printed this. @throws AssertionError when it ends without, or takes too long */
  async printed(pattern: RegExp): Promise<void> {
    let isOver = false;
    void this.ended.catch(() => {}).finally(() => ((isOver = true), this.#onOutput()));
    const limit = setTimeout(() => ((isOver = true), this.#onOutput()), LINE_LIMIT_MS);
    while (!pattern.test(this.#stderr)) {
      assert.ok(!isOver, `pgconvoy backup has not printed ${pattern}:\n${this.#stderr}`);
      await new Promise<void>((resolve) => (this.#onOutput = resolve));
    }
    clearTimeout(limit);
  }

  kill(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  /** Sends the signal and waits for the end. @returns how it ended, and after how many milliseconds */
  async endBy(signal: NodeJS.Signals): Promise<RunResult & { readonly afterMs: number }> {
    const sent = performance.now();
    this.kill(signal);
    const result = await this.ended;
    return { ...result, afterMs: performance.now() - sent };
  }
}
