/* `pgconvoy serve` beside a server, as a child process: for the demo and the bench. */
import { type ChildProcess, spawn } from 'node:child_process';
import type { EmbeddedServer } from './embedded-server.js';
import { forgetAtExit, signalAtExit, signalIfThere } from './left-at-exit.js';
import { passwordEnvironment, PROGRAM_FILE } from './own-program.js';

const START_LIMIT_MS = 30_000;
const STOP_LIMIT_MS = 10_000;
const LOG_TAIL_CHARACTERS = 4096;
const LISTENING = /^pgconvoy: listening on 127\.0\.0\.1:(\d+)$/m;

/** The arguments by which `serve` is started beside this server, on a free port; no secret is among them. */
export function serveArguments(server: EmbeddedServer): string[] {
  const { host, port, user, dataDirectory } = server;
  const conninfo = `host=${host} port=${port} user=${user} dbname=postgres`;
  return ['serve', '-D', dataDirectory, '-d', conninfo, '--listen', '127.0.0.1:0'];
}

/** A running `pgconvoy serve`; `await using` or `stop()` ends it, and so does this process's end. */
export class ServeProcess implements AsyncDisposable {
  readonly host = '127.0.0.1';
  readonly pid: number;
  readonly #child: ChildProcess;
  readonly #ended: Promise<void>;
  #log = '';
  #port = 0;

  /**
   * Starts it and returns once it listens.
   *
   * @param nodeArguments for node itself, such as --cpu-prof
   * @throws Error with what it printed, when it ends or does not listen in time; the signal's reason when aborted
   */
  static async start(
    server: EmbeddedServer,
    options: { readonly nodeArguments?: readonly string[]; readonly signal?: AbortSignal } = {},
  ): Promise<ServeProcess> {
    const { nodeArguments = [], signal } = options;
    // A session of its own: Ctrl-C on the terminal ends the program, which then ends serve in order.
    const child = spawn(process.execPath, [...nodeArguments, PROGRAM_FILE, ...serveArguments(server)], {
      cwd: '/',
      env: passwordEnvironment(server),
      stdio: ['ignore', 'ignore', 'pipe'],
      detached: true,
    });
    const serve = new ServeProcess(child);
    try {
      await serve.#listening(signal);
      return serve;
    } catch (error) {
      await serve.stop();
      throw error;
    }
  }

  private constructor(child: ChildProcess) {
    this.#child = child;
    this.pid = child.pid ?? 0;
    if (child.pid !== undefined) signalAtExit(-child.pid, 'SIGKILL');
    this.#ended = new Promise((resolve) => {
      child.on('error', () => resolve());
      child.on('exit', () => {
        forgetAtExit(-this.pid);
        resolve();
      });
    });
  }

  get port(): number {
    return this.#port;
  }

  /** The end of what it has logged. */
  get log(): string {
    return this.#log;
  }

  /** Asks it to end and waits; what is left of it after 10 s is killed. */
  async stop(): Promise<void> {
    if (this.pid === 0) return;
    this.#child.kill('SIGTERM');
    const limit = setTimeout(() => signalIfThere(-this.pid, 'SIGKILL'), STOP_LIMIT_MS);
    await this.#ended;
    clearTimeout(limit);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }

  async #listening(signal: AbortSignal | undefined): Promise<void> {
    const limit = AbortSignal.timeout(START_LIMIT_MS);
    const stopWaiting = signal === undefined ? limit : AbortSignal.any([signal, limit]);
    await new Promise<void>((resolve, reject) => {
      this.#child.stderr?.setEncoding('utf8').on('data', (text: string) => {
        this.#log = (this.#log + text).slice(-LOG_TAIL_CHARACTERS);
        const port = LISTENING.exec(this.#log)?.[1];
        if (port === undefined || this.#port !== 0) return;
        this.#port = Number(port);
        resolve();
      });
      void this.#ended.then(() => reject(new Error(`"pgconvoy serve" ended by itself\n${this.#log}`)));
      const giveUp = (): void =>
        reject(
          signal?.aborted === true
            ? signal.reason
            : new Error(`"pgconvoy serve" does not listen\n${this.#log}`),
        );
      stopWaiting.addEventListener('abort', giveUp, { once: true });
      if (stopWaiting.aborted) giveUp();
    });
  }
}
