/*
 * A TCP proxy that spoils connections: cuts one off, freezes it, or slows it down, at a byte count or when the client asks for
 * something. Tests put it between `pgconvoy backup` and `pgconvoy serve`.
 */
import { once } from 'node:events';
import { createConnection, createServer, type Server, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { assertNever } from '../../src/assert-never.js';
import { cleanup, type TestScope } from './cleanup.js';

/** What happens to a connection, and when. */
export interface Fault {
  /**
   * `cut` resets both ends; `stall` passes nothing to the client any more; `freeze` nothing to either side, not even that
   * the other has gone.
   */
  readonly kind: 'cut' | 'stall' | 'freeze';
  /** After this many bytes from the server; one of the two is given. */
  readonly afterBytes?: number;
  /** As soon as the client sends this text; it does not arrive. */
  readonly atRequest?: string;
}

/** One connection through the proxy. */
export class ProxiedConnection {
  /** In the order of connecting: a backup's coordinator is 0, its workers follow. */
  readonly index: number;
  readonly #client: Socket;
  readonly #server: Socket;
  readonly #fault: Fault | undefined;
  #bytes = 0;
  #frozen = false;
  #stalled = false;
  /** Resolves when the fault has struck. */
  readonly struck: Promise<void>;
  #strike: () => void = () => {};

  constructor(index: number, client: Socket, server: Socket, fault: Fault | undefined) {
    this.index = index;
    this.#client = client;
    this.#server = server;
    this.#fault = fault;
    this.struck = new Promise((resolve) => (this.#strike = resolve));
    client.on('data', (chunk) => this.#fromClient(chunk));
    server.on('data', (chunk) => this.#fromServer(chunk));
    client.on('drain', () => {
      if (!this.#stalled && !this.#frozen) server.resume();
    });
    server.on('drain', () => {
      if (!this.#frozen) client.resume();
    });
    for (const [one, other] of [
      [client, server],
      [server, client],
    ] as const) {
      one.on('error', () => {});
      one.on('end', () => {
        if (!this.#frozen) other.end();
      });
      // a frozen proxy does not hand on that one side has gone
      one.on('close', () => {
        if (!this.#frozen) other.destroy();
      });
    }
  }

  /** Bytes from the server that were passed on. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Resets both ends. */
  cut(): void {
    this.#client.resetAndDestroy();
    this.#server.resetAndDestroy();
    this.#strike();
  }

  /** From now on nothing passes to the client. */
  stall(): void {
    this.#stalled = true;
    this.#server.pause();
    this.#strike();
  }

  /** From now on nothing passes, and both ends stay open. */
  freeze(): void {
    this.#frozen = true;
    this.#client.pause();
    this.#server.pause();
    this.#strike();
  }

  /** Ends both sides, frozen or not. */
  destroy(): void {
    this.#client.destroy();
    this.#server.destroy();
  }

  #fromClient(chunk: Buffer): void {
    if (this.#frozen) return;
    if (this.#fault?.atRequest !== undefined && chunk.includes(this.#fault.atRequest)) {
      this.#spoil(this.#fault);
      return;
    }
    if (!this.#server.write(chunk)) this.#client.pause();
  }

  #fromServer(chunk: Buffer): void {
    if (this.#frozen || this.#stalled) return;
    this.#bytes += chunk.length;
    if (!this.#client.write(chunk)) this.#server.pause();
    if (this.#fault?.afterBytes !== undefined && this.#bytes >= this.#fault.afterBytes)
      this.#spoil(this.#fault);
  }

  #spoil({ kind }: Fault): void {
    switch (kind) {
      case 'cut':
        return this.cut();
      case 'stall':
        return this.stall();
      case 'freeze':
        return this.freeze();
      default:
        assertNever(kind);
    }
  }
}

interface Destination {
  readonly host: string;
  readonly port: number;
}

export class FaultyProxy {
  readonly host = '127.0.0.1';
  readonly connections: ProxiedConnection[] = [];
  readonly #listener: Server;
  readonly #targetOf: (index: number) => Destination;
  readonly #faultOf: (index: number) => Fault | undefined;

  /**
   * Starts one on a free port; it ends with the test.
   *
   * @param target where connections lead to; a function: each to a place of its own
   * @param faultOf what is to happen to the connection with this index
   */
  static async start(
    t: TestScope,
    target: Destination | ((index: number) => Destination),
    faultOf: (index: number) => Fault | undefined = () => undefined,
  ): Promise<FaultyProxy> {
    const proxy = new FaultyProxy(typeof target === 'function' ? target : () => target, faultOf);
    proxy.#listener.listen(0, proxy.host);
    await once(proxy.#listener, 'listening');
    cleanup(t, () => proxy.#end());
    return proxy;
  }

  private constructor(
    targetOf: (index: number) => Destination,
    faultOf: (index: number) => Fault | undefined,
  ) {
    this.#targetOf = targetOf;
    this.#faultOf = faultOf;
    this.#listener = createServer((client) => this.#accept(client));
  }

  get port(): number {
    const address = this.#listener.address();
    return typeof address === 'object' ? (address?.port ?? 0) : 0;
  }

  /** The connection with this index, once it is there. */
  async connection(index: number): Promise<ProxiedConnection> {
    for (const limit = Date.now() + 20_000; Date.now() < limit; await delay(10)) {
      const found = this.connections[index];
      if (found !== undefined) return found;
    }
    throw new Error(`nobody has opened connection ${index}`);
  }

  #accept(client: Socket): void {
    const index = this.connections.length;
    const { host, port } = this.#targetOf(index);
    const server = createConnection({ host, port });
    this.connections.push(new ProxiedConnection(index, client, server, this.#faultOf(index)));
  }

  async #end(): Promise<void> {
    for (const connection of this.connections) connection.destroy();
    await new Promise((resolve) => this.#listener.close(resolve));
  }
}
