/*
 * The primary process of `serve`: takes connections, counts them, and hands each, unread, to the session process that
 * has the fewest. It never sees what a client sends. Opened by serve.ts.
 */
import { once } from 'node:events';
import { lstat, rm } from 'node:fs/promises';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { ConvoyError, isSystemError } from '../errors.js';
import { Admission } from './admission.js';
import { formatListenAddress, type ListenAddress } from './listen-address.js';
import type { ServerLog } from './server-log.js';
import { SessionProcess, type SessionProcessOptions } from './session-process-handle.js';

export interface ListenerOptions {
  readonly address: ListenAddress;
  readonly maxConnections: number;
  readonly processCount: number;
  readonly sessionProcess: Pick<SessionProcessOptions, 'entry' | 'settings'>;
  readonly log: ServerLog;
}

/** For sessions to end by themselves. */
const STOP_LIMIT_MS = 4000;

export class Listener {
  /** Resolves, with the reason, where the listener cannot go on. */
  readonly failed: Promise<ConvoyError>;
  readonly #options: ListenerOptions;
  readonly #server: Server;
  readonly #processes: readonly SessionProcess[];
  readonly #admission: Admission;
  #lastClient = 0;
  #fail: (reason: ConvoyError) => void = () => {};

  /** @throws ConvoyError `serve_refused` where the address cannot be used */
  static async open(options: ListenerOptions): Promise<Listener> {
    const { address } = options;
    try {
      if (address.kind === 'unix') await removeDeadSocket(address.path);
      const server = createServer({ pauseOnConnect: true });
      server.listen(
        address.kind === 'unix' ? { path: address.path } : { host: address.host, port: address.port },
      );
      await once(server, 'listening');
      return new Listener(server, options);
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      const message = `could not listen on ${formatListenAddress(address)}: ${reason}`;
      throw new ConvoyError('serve_refused', message, { cause: error });
    }
  }

  private constructor(server: Server, options: ListenerOptions) {
    this.failed = new Promise((resolve) => (this.#fail = resolve));
    this.#options = options;
    this.#server = server;
    const { processCount, sessionProcess, log, maxConnections } = options;
    this.#admission = new Admission(maxConnections);
    this.#processes = Array.from(
      { length: processCount },
      () =>
        new SessionProcess({
          ...sessionProcess,
          log,
          onLoggedIn: (id) => this.#admission.admit(id),
          onEnded: (id) => this.#admission.leave(id),
          onCancel: (processId, secretKey) => this.#cancel(processId, secretKey),
          onBroken: (reason) => this.#fail(reason),
        }),
    );
    server.on('connection', (socket) => this.#take(socket));
    server.on('error', (error) => log('ERROR', `could not accept a connection: ${error.message}`));
  }

  /** With the port that was given where 0 was asked for. */
  get address(): ListenAddress {
    const { address } = this.#options;
    const bound = this.#server.address();
    if (address.kind === 'unix' || bound === null || typeof bound === 'string') return address;
    return { ...address, port: bound.port };
  }

  /** Takes no more connections and ends all sessions; resolves when all processes have ended. */
  async stop(): Promise<void> {
    this.#server.close();
    await Promise.all(this.#processes.map((process) => process.stop(STOP_LIMIT_MS)));
  }

  /** Ends everything now. */
  kill(): void {
    this.#server.close();
    for (const process of this.#processes) process.kill();
  }

  #take(socket: Socket): void {
    // a client that is gone already is noticed by its session
    socket.on('error', () => {});
    const peer = describePeer(socket);
    this.#options.log('DEBUG', `connection received: ${peer}`);
    this.#lastClient += 1;
    const evicted = this.#admission.arrive(this.#lastClient);
    leastLoaded(this.#processes)?.give(socket, this.#lastClient, peer);
    if (evicted === undefined) return;
    for (const process of this.#processes) process.drop(evicted);
  }

  #cancel(processId: number, secretKey: Uint8Array): void {
    for (const process of this.#processes) process.cancel(processId, secretKey);
  }
}

function leastLoaded(processes: readonly SessionProcess[]): SessionProcess | undefined {
  return processes.reduce<SessionProcess | undefined>(
    (best, process) => (best === undefined || process.clientCount < best.clientCount ? process : best),
    undefined,
  );
}

/** A socket file that nobody answers at was left behind by a `serve` that was killed. */
async function removeDeadSocket(file: string): Promise<void> {
  const stats = await lstat(file).catch(() => undefined);
  if (stats?.isSocket() !== true) return;
  const probe = connect(file);
  const isDead = await once(probe, 'connect').then(
    () => false,
    (error: unknown) => isSystemError(error, 'ECONNREFUSED'),
  );
  probe.destroy();
  if (isDead) await rm(file);
}

function describePeer(socket: Socket): string {
  const { remoteAddress, remotePort } = socket;
  return remoteAddress === undefined ? 'host=[local]' : `host=${remoteAddress} port=${remotePort}`;
}
