/*
 * A link that lets every connection have so many bytes a second and no more, as a network does that shapes flows: a TCP proxy
 * on loopback. For the case that a server is far away and one stream does not fill the line.
 */
import { once } from 'node:events';
import { createConnection, createServer, type Server, type Socket } from 'node:net';

const TICK_MS = 10;

export class LimitedLink implements AsyncDisposable {
  readonly host = '127.0.0.1';
  readonly #listener: Server;
  readonly #sockets = new Set<Socket>();

  static async open(
    target: { readonly host: string; readonly port: number },
    bytesPerSecond: number,
  ): Promise<LimitedLink> {
    const link = new LimitedLink(target, bytesPerSecond);
    link.#listener.listen(0, link.host);
    await once(link.#listener, 'listening');
    return link;
  }

  private constructor(target: { readonly host: string; readonly port: number }, bytesPerSecond: number) {
    this.#listener = createServer((client) => {
      const server = createConnection({ host: target.host, port: target.port });
      for (const socket of [client, server]) {
        this.#sockets.add(socket);
        socket.on('close', () => this.#sockets.delete(socket));
        socket.on('error', () => socket.destroy());
      }
      client.pipe(server);
      passLimited(server, client, (bytesPerSecond * TICK_MS) / 1000);
    });
  }

  get port(): number {
    const address = this.#listener.address();
    return typeof address === 'object' ? (address?.port ?? 0) : 0;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    this.#listener.close();
    await once(this.#listener, 'close');
  }
}

/** Passes at most so many bytes in each tick; what a late tick has missed is made up for. */
function passLimited(from: Socket, to: Socket, bytesPerTick: number): void {
  const startedMs = performance.now();
  let passed = 0;
  const timer = setInterval(() => {
    const allowed = ((performance.now() - startedMs) / TICK_MS) * bytesPerTick;
    // an idle link saves nothing up
    passed = Math.max(passed, allowed - 2 * bytesPerTick);
    if (passed < allowed) from.resume();
  }, TICK_MS);
  from.on('data', (chunk: Buffer) => {
    passed += chunk.length;
    const allowed = ((performance.now() - startedMs) / TICK_MS) * bytesPerTick;
    if (passed >= allowed) from.pause();
    to.write(chunk);
  });
  from.on('end', () => to.end());
  from.on('close', () => clearInterval(timer));
  to.on('close', () => from.destroy());
}
