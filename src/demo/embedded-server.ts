/*
 * Real PostgreSQL servers from npm packages, as child processes: for the `demo` command, the tests and the bench.
 * Knows processes and files only; whoever wants SQL connects to `conninfo`. As root, everything of a server is run as
 * an ordinary account (server-account.ts).
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import * as fs from 'node:fs/promises';
import { createServer } from 'node:net';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { DEFAULT_SETTINGS, initdb, type CreateOptions } from './initdb.js';
import { forgetAtExit, removeDirectory, signalAtExit, signalIfThere } from './left-at-exit.js';
import type { PostgresBinaries } from './postgres-binaries.js';
import {
  asAccount,
  assertReach,
  giveTree,
  serverAccount,
  temporaryDirectory,
  type ServerAccount,
} from './server-account.js';

export interface AdoptOptions {
  readonly binaries: PostgresBinaries;
  /** An existing data directory, such as a restored backup; used in place. */
  readonly dataDirectory: string;
  /** Tablespace directories that pg_tblspc does not link to yet. */
  readonly tablespaces?: readonly string[];
  /** Superuser that the cluster has, `postgres` unless given. */
  readonly user?: string;
  readonly password: string;
  /** Given on the command line: they win over every file of the cluster, and ALTER SYSTEM cannot change them. */
  readonly settings?: Readonly<Record<string, string>>;
}

export type StopMode = 'smart' | 'fast' | 'immediate';

const START_LIMIT_MS = 120_000;
const RETRY_LIMIT_MS = 30_000;
const RETRY_MS = 200;
const STOP_LIMIT_MS = 60_000;
const POLL_MS = 20;
const LOG_TAIL_BYTES = 4096;

const STOP_SIGNALS = { smart: 'SIGTERM', fast: 'SIGINT', immediate: 'SIGQUIT' } as const;

interface ServerParts {
  readonly binaries: PostgresBinaries;
  readonly account: ServerAccount | undefined;
  readonly dataDirectory: string;
  readonly socketDirectory: string;
  readonly logFile: string;
  readonly user: string;
  readonly password: string;
  readonly port: number;
  readonly commandLine: Readonly<Record<string, string>>;
  /** What disposing removes. */
  readonly owned: readonly string[];
}

/** One PostgreSQL server of this process. Made stopped; `await using` or `stop()` ends it, and so does the process's end. */
export class EmbeddedServer implements AsyncDisposable {
  readonly host = '127.0.0.1';
  readonly binaries: PostgresBinaries;
  /** The account that it runs as, undefined when that is this process's own. */
  readonly account: ServerAccount | undefined;
  readonly dataDirectory: string;
  readonly socketDirectory: string;
  readonly logFile: string;
  readonly user: string;
  readonly password: string;
  readonly #commandLine: Readonly<Record<string, string>>;
  readonly #owned: readonly string[];
  #port: number;
  #hasRun = false;
  #child: ChildProcess | undefined;

  private constructor(parts: ServerParts) {
    this.binaries = parts.binaries;
    this.account = parts.account;
    this.dataDirectory = parts.dataDirectory;
    this.socketDirectory = parts.socketDirectory;
    this.logFile = parts.logFile;
    this.user = parts.user;
    this.password = parts.password;
    this.#port = parts.port;
    this.#commandLine = parts.commandLine;
    this.#owned = parts.owned;
  }

  /**
   * Runs initdb for a new cluster: superuser `postgres` with a random password, SCRAM for every connection, UTF8, locale C.
   *
   * @throws Error when the directory is not empty or not within the account's reach, or initdb fails.
   */
  static async create(options: CreateOptions): Promise<EmbeddedServer> {
    const { binaries } = options;
    const account = await serverAccount();
    const directory = path.resolve(options.directory);
    const made = await fs.mkdir(directory, { recursive: true });
    if ((await fs.readdir(directory)).length > 0) throw new Error(`directory "${directory}" is not empty`);
    if (account !== undefined) await fs.chown(directory, account.uid, account.gid);
    await assertReach(directory, account);
    const dataDirectory = path.join(directory, 'data');
    const logFile = path.join(directory, 'server.log');
    const password = randomBytes(18).toString('hex');
    const socketDirectory = await temporaryDirectory(account, 0o700);
    const owned = [socketDirectory, dataDirectory, logFile, ...(made === undefined ? [] : [directory])];
    try {
      await initdb(options, account, dataDirectory, socketDirectory, password);
    } catch (error) {
      for (const thing of owned) await removeDirectory(thing);
      throw error;
    }
    const port = await freePort();
    const user = 'postgres';
    const parts = { binaries, account, dataDirectory, socketDirectory, logFile, user, password, port };
    return new EmbeddedServer({ ...parts, commandLine: {}, owned });
  }

  /**
   * A server for a data directory that exists, left where it is; as root, its files are given to the account.
   * Disposing stops the server and leaves the data.
   *
   * @throws Error when the account cannot reach the data directory.
   */
  static async adopt(options: AdoptOptions): Promise<EmbeddedServer> {
    const { binaries, password, user = 'postgres' } = options;
    const account = await serverAccount();
    const dataDirectory = await fs.realpath(options.dataDirectory);
    if (account !== undefined) {
      for (const tree of [dataDirectory, ...(options.tablespaces ?? [])]) await giveTree(tree, account);
    }
    await assertReach(dataDirectory, account);
    const socketDirectory = await temporaryDirectory(account, 0o700);
    const logFile = path.join(socketDirectory, 'server.log');
    const port = await freePort();
    const parts = { binaries, account, dataDirectory, socketDirectory, logFile, user, password, port };
    const commandLine = { ...DEFAULT_SETTINGS, ...options.settings };
    return new EmbeddedServer({ ...parts, commandLine, owned: [socketDirectory] });
  }

  /** The TCP port; kept over restarts. */
  get port(): number {
    return this.#port;
  }

  /** The postmaster's process id while it runs. */
  get pid(): number | undefined {
    return this.#child?.pid;
  }

  /** A connection URI for the superuser and the database `postgres`, password included. */
  get conninfo(): string {
    return `postgresql://${this.user}:${this.password}@${this.host}:${this.#port}/postgres`;
  }

  /** Makes a directory that the server may write to, such as a tablespace's location. */
  async makeDirectory(directory: string): Promise<string> {
    await fs.mkdir(directory, { recursive: true, mode: 0o700 });
    if (this.account !== undefined) await fs.chown(directory, this.account.uid, this.account.gid);
    await assertReach(directory, this.account);
    return directory;
  }

  /**
   * Starts the server and returns once it takes connections (a standby: read-only ones). Does nothing while it runs.
   *
   * @throws Error with the end of the server's log when it ends or is not ready in time.
   */
  async start(): Promise<void> {
    const limit = Date.now() + RETRY_LIMIT_MS;
    while (this.#child === undefined) {
      const problem = await this.#launch();
      if (problem === undefined) break;
      // Somebody took the port, or the backends of a killed postmaster are still ending.
      const passing = /Address already in use|pre-existing shared memory block/.test(problem);
      if (!passing || Date.now() > limit) {
        throw new Error(
          `PostgreSQL ${this.binaries.major} did not start in "${this.dataDirectory}"\n${problem}`,
        );
      }
      if (!this.#hasRun) this.#port = await freePort();
      await delay(RETRY_MS);
    }
    this.#hasRun = true;
  }

  /**
   * Stops the server the way `pg_ctl stop -m` does and waits for its end. Does nothing while it does not run.
   *
   * @throws Error when it has not ended in 60 s; then it has been stopped in immediate mode.
   */
  async stop(mode: StopMode = 'fast'): Promise<void> {
    const child = this.#child;
    if (child === undefined) return;
    child.ref();
    child.kill(STOP_SIGNALS[mode]);
    if (await endsWithin(child, STOP_LIMIT_MS)) return;
    child.kill('SIGQUIT');
    if (!(await endsWithin(child, STOP_LIMIT_MS))) child.kill('SIGKILL');
    throw new Error(`the server did not stop (${mode}) in ${STOP_LIMIT_MS / 1000} s\n${await this.log()}`);
  }

  async restart(mode: StopMode = 'fast'): Promise<void> {
    await this.stop(mode);
    await this.start();
  }

  /** Ends the postmaster and its children with SIGKILL, as a crash of the machine would. */
  async kill(): Promise<void> {
    const child = this.#child;
    if (child?.pid === undefined) return;
    // Backends notice the end of their postmaster by themselves, 13's autovacuum launcher only after half a minute.
    const backends = await fs
      .readFile(`/proc/${child.pid}/task/${child.pid}/children`, 'utf8')
      .catch(() => '');
    child.ref();
    child.kill('SIGKILL');
    await endsWithin(child, STOP_LIMIT_MS);
    for (const pid of backends.split(' ').filter((word) => word !== ''))
      signalIfThere(Number(pid), 'SIGKILL');
  }

  /** The end of the server's log, at most 4 kB of it. */
  async log(fromByte = 0): Promise<string> {
    const text = await fs.readFile(this.logFile).catch(() => Buffer.alloc(0));
    return text.subarray(Math.max(fromByte, text.length - LOG_TAIL_BYTES)).toString();
  }

  /** Stops the server and removes what `create` made. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop(this.#owned.includes(this.dataDirectory) ? 'immediate' : 'fast');
    for (const thing of this.#owned) await removeDirectory(thing);
  }

  /** Starts the postmaster; the reason when it does not become ready. */
  async #launch(): Promise<string | undefined> {
    const settings = {
      ...this.#commandLine,
      port: String(this.#port),
      listen_addresses: this.host,
      unix_socket_directories: this.socketDirectory,
      logging_collector: 'off',
      log_destination: 'stderr',
    };
    const flags = Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`]);
    const log = openSync(this.logFile, 'a', 0o644);
    const logStart = (await fs.stat(this.logFile)).size;
    // A session of its own: Ctrl-C on the terminal ends the program, which then ends the server in order.
    const child = spawn(path.join(this.binaries.bin, 'postgres'), ['-D', this.dataDirectory, ...flags], {
      ...asAccount(this.account),
      detached: true,
      stdio: ['ignore', log, log],
    });
    closeSync(log);
    let failure: string | undefined;
    this.#child = child;
    const { pid } = child;
    if (pid !== undefined) signalAtExit(pid, 'SIGQUIT');
    const ended = (reason: string): void => {
      failure = reason;
      if (pid !== undefined) forgetAtExit(pid);
      if (this.#child === child) this.#child = undefined;
    };
    child.on('error', (error) => ended(error.message));
    child.on('exit', (status, signal) => ended(`the server ended with ${signal ?? `status ${status}`}`));

    for (const limit = Date.now() + START_LIMIT_MS; Date.now() < limit; await delay(POLL_MS)) {
      if (failure !== undefined) return `${failure}\n${await this.log(logStart)}`;
      if (await this.#isReady(pid)) {
        child.unref();
        return undefined;
      }
    }
    await this.stop('immediate');
    return `it was not ready in ${START_LIMIT_MS / 1000} s\n${await this.log(logStart)}`;
  }

  /** Reads postmaster.pid: line 1 is the postmaster's pid, line 8 its status (src/include/utils/pidfile.h). */
  async #isReady(pid: number | undefined): Promise<boolean> {
    const text = await fs.readFile(path.join(this.dataDirectory, 'postmaster.pid'), 'utf8').catch(() => '');
    const lines = text.split('\n').map((line) => line.trim());
    return Number(lines[0]) === pid && (lines[7] === 'ready' || lines[7] === 'standby');
  }
}

async function endsWithin(child: ChildProcess, limitMs: number): Promise<boolean> {
  if (child.exitCode !== null || child.signalCode !== null) return true;
  try {
    await once(child, 'exit', { signal: AbortSignal.timeout(limitMs) });
    return true;
  } catch {
    return false;
  }
}

async function freePort(): Promise<number> {
  const listener = createServer().listen(0, '127.0.0.1');
  await once(listener, 'listening');
  const address = listener.address();
  await new Promise((resolve) => listener.close(resolve));
  if (address === null || typeof address === 'string') throw new Error('no free TCP port');
  return address.port;
}
