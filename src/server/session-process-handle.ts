/*
 * The primary's end of one session process: starts it, gives it sockets, counts its sessions, and starts another where
 * it dies. Used by listener.ts; twin of session-host.ts.
 */
import { fork, type ChildProcess } from 'node:child_process';
import type { Socket } from 'node:net';
import { assertNever } from '../assert-never.js';
import { asConvoyError, ConvoyError } from '../errors.js';
import type { FromSessionProcess, SessionProcessSettings, ToSessionProcess } from './process-messages.js';
import type { ServerLog } from './server-log.js';

export interface SessionProcessOptions {
  /** The compiled workers/session-process.ts. */
  readonly entry: string;
  readonly settings: SessionProcessSettings;
  readonly log: ServerLog;
  /** A client has logged in. @returns whether there is a place for its session */
  readonly onLoggedIn: (id: number) => boolean;
  /** A client is gone. */
  readonly onEnded: (id: number) => void;
  /** A client of some process wants a session cancelled. */
  readonly onCancel: (processId: number, secretKey: Uint8Array) => void;
  /** The process ends again and again before it serves anybody. */
  readonly onBroken: (reason: ConvoyError) => void;
}

/** A process that has not lived so long has not worked; after a few in a row there is no point in another. */
const SHORT_LIFE_MS = 5000;
const MAX_SHORT_LIVES = 5;

export class SessionProcess {
  readonly #options: SessionProcessOptions;
  #child: ChildProcess;
  readonly #clients = new Set<number>();
  #shortLives = 0;
  #isStopping = false;
  #exited: Promise<void>;

  constructor(options: SessionProcessOptions) {
    this.#options = options;
    [this.#child, this.#exited] = this.#launch();
  }

  /** Clients that it has, logged in or not. */
  get clientCount(): number {
    return this.#clients.size;
  }

  /** Hands over a client, its socket unread. */
  give(socket: Socket, id: number, peer: string): void {
    this.#clients.add(id);
    this.#send({ kind: 'client', id, peer }, socket);
  }

  /** Ends a client that has not logged in; does nothing where another process has it. */
  drop(id: number): void {
    if (this.#clients.has(id)) this.#send({ kind: 'drop', id });
  }

  cancel(processId: number, secretKey: Uint8Array): void {
    this.#send({ kind: 'cancel', processId, secretKey });
  }

  /** Ends its sessions and the process; what has not ended after `limitMs` is killed. */
  async stop(limitMs: number): Promise<void> {
    this.#isStopping = true;
    this.#send({ kind: 'shutdown' });
    const timer = setTimeout(() => this.kill(), limitMs);
    await this.#exited;
    clearTimeout(timer);
  }

  kill(): void {
    this.#isStopping = true;
    this.#child.kill('SIGKILL');
  }

  #send(message: ToSessionProcess, socket?: Socket): void {
    const { log } = this.#options;
    if (!this.#child.connected) {
      socket?.destroy();
      return;
    }
    this.#child.send(message, socket, (error) => {
      if (error !== null)
        log('WARNING', `could not reach session process ${this.#child.pid}: ${error.message}`);
    });
  }

  #launch(): [ChildProcess, Promise<void>] {
    const started = performance.now();
    const { entry, settings } = this.#options;
    const child = fork(entry, [], {
      serialization: 'advanced',
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
    child.on('message', (message) => this.#receive(message as FromSessionProcess));
    let failure: string | undefined;
    child.on('error', (error) => (failure = error.message));
    const exited = new Promise<void>((resolve) => {
      child.on('close', (status, signal) => {
        resolve();
        this.#replace(
          failure ?? `it ended with ${signal ?? `status ${status}`}`,
          performance.now() - started,
        );
      });
    });
    child.send({ kind: 'start', settings } satisfies ToSessionProcess, () => {});
    return [child, exited];
  }

  #replace(reason: string, lifeMs: number): void {
    const { log, onBroken, onEnded } = this.#options;
    for (const id of this.#clients) onEnded(id);
    this.#clients.clear();
    if (this.#isStopping) return;
    log('ERROR', `session process ${this.#child.pid} is gone, and its sessions with it: ${reason}`);
    this.#shortLives = lifeMs < SHORT_LIFE_MS ? this.#shortLives + 1 : 0;
    if (this.#shortLives >= MAX_SHORT_LIVES) {
      onBroken(new ConvoyError('worker_failed', `session processes end at once: ${reason}`));
      return;
    }
    try {
      [this.#child, this.#exited] = this.#launch();
    } catch (error) {
      onBroken(asConvoyError(error, 'worker_failed'));
    }
  }

  #receive(message: FromSessionProcess): void {
    switch (message.kind) {
      case 'ready':
        return;
      case 'log':
        this.#options.log(message.level, `[${this.#child.pid}] ${message.text}`);
        return;
      case 'logged_in': {
        const hasPlace = this.#options.onLoggedIn(message.id);
        this.#send({ kind: 'admitted', id: message.id, hasPlace });
        return;
      }
      case 'session_ended':
        this.#clients.delete(message.id);
        this.#options.onEnded(message.id);
        return;
      case 'cancel':
        this.#options.onCancel(message.processId, message.secretKey);
        return;
      default:
        assertNever(message);
    }
  }
}
