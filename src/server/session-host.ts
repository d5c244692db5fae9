/*
 * A session process: holds the sessions that the primary hands it and what they share. Called by
 * workers/session-process.ts; twin of session-process-handle.ts, which is the primary's end of the channel.
 */
import { Socket } from 'node:net';
import { assertNever } from '../assert-never.js';
import { ConvoyError } from '../errors.js';
import { tooManyClients } from './login.js';
import { PageMemoryPool } from './page-memory-pool.js';
import type { FromSessionProcess, SessionProcessSettings, ToSessionProcess } from './process-messages.js';
import { ServerAccess } from './server-access.js';
import { Session, type SessionEnvironment } from './session.js';
import { secureContext } from './tls-files.js';

/** The channel to the primary, as `process` has it. */
export interface PrimaryChannel {
  send(message: FromSessionProcess): void;
}

export class SessionHost {
  readonly #primary: PrimaryChannel;
  readonly #sessions = new Map<Session, Promise<void>>();
  readonly #byId = new Map<number, Session>();
  /** Clients that have logged in and wait for a place. */
  readonly #waiting = new Map<number, (hasPlace: boolean) => void>();
  #environment: SessionEnvironment | undefined;
  #shutdown: ConvoyError | undefined;

  constructor(primary: PrimaryChannel) {
    this.#primary = primary;
  }

  /** Takes a message of the primary's; resolves to true when the process has nothing left to do. */
  async receive(message: ToSessionProcess, handle: unknown): Promise<boolean> {
    switch (message.kind) {
      case 'start':
        this.#start(message.settings);
        return false;
      case 'client':
        this.#accept(handle, message.id, message.peer);
        return false;
      case 'admitted':
        this.#waiting.get(message.id)?.(message.hasPlace);
        this.#waiting.delete(message.id);
        return false;
      case 'drop':
        this.#byId.get(message.id)?.terminate(tooManyClients());
        return false;
      case 'cancel':
        for (const session of this.#sessions.keys()) {
          if (session.processId === message.processId) session.cancel(message.secretKey);
        }
        return false;
      case 'shutdown':
        await this.end();
        return true;
      default:
        return assertNever(message);
    }
  }

  /** Ends all sessions with the message that PostgreSQL has for it. */
  async end(): Promise<void> {
    const message = 'terminating connection due to administrator command';
    this.#shutdown = new ConvoyError('cancelled', message, { sqlState: '57P01' });
    for (const session of this.#sessions.keys()) session.terminate(this.#shutdown);
    await Promise.all(this.#sessions.values());
    await this.#environment?.access.close();
  }

  #start(settings: SessionProcessSettings): void {
    const { cluster, connection, tls, mockSecret, loginTimeoutMs } = settings;
    this.#environment = {
      cluster,
      access: new ServerAccess(connection),
      pageMemory: new PageMemoryPool(),
      secureContext: tls === undefined ? undefined : secureContext(tls),
      mockSecret,
      loginTimeoutMs,
      log: (level, text) => this.#primary.send({ kind: 'log', level, text }),
      onCancelRequest: (processId, secretKey) => this.#primary.send({ kind: 'cancel', processId, secretKey }),
    };
    this.#primary.send({ kind: 'ready' });
  }

  #accept(handle: unknown, id: number, peer: string): void {
    const ended = (): void => {
      this.#byId.delete(id);
      this.#waiting.delete(id);
      this.#primary.send({ kind: 'session_ended', id });
    };
    // no handle: the client went away while its socket was handed over
    if (!(handle instanceof Socket) || this.#environment === undefined) {
      ended();
      return;
    }
    const admit = (): Promise<boolean> => {
      this.#primary.send({ kind: 'logged_in', id });
      return new Promise((resolve) => this.#waiting.set(id, resolve));
    };
    const session = new Session(peer, admit, this.#environment);
    this.#byId.set(id, session);
    const running = session.run(handle).finally(() => {
      this.#sessions.delete(session);
      ended();
    });
    this.#sessions.set(session, running);
    if (this.#shutdown !== undefined) session.terminate(this.#shutdown);
  }
}
