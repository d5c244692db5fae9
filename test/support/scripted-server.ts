/*
 * A server that says what a test tells it to: protocol 3 on 127.0.0.1 without TLS, every client let in. Its messages are put
 * together here, not by the code under test.
 */
import { once } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';
import { resolveConnection, type ConnectionSettings } from '../../src/wire/conninfo.js';
import { cleanup, type TestScope } from './cleanup.js';

/** Strings become C strings, numbers 32-bit integers, buffers themselves. */
export type MessagePart = string | number | Buffer;

/** A message: type, length with itself, parts. */
export function message(type: string, ...parts: readonly MessagePart[]): Buffer {
  const body = Buffer.concat(parts.map(encodePart));
  return Buffer.concat([head(type, body.length + 4), body]);
}

/** Type and length alone, right or wrong. */
export function head(type: string, length: number): Buffer {
  const bytes = Buffer.alloc(5);
  bytes.write(type, 'latin1');
  bytes.writeUInt32BE(length, 1);
  return bytes;
}

function encodePart(part: MessagePart): Buffer {
  if (typeof part === 'string') return Buffer.from(`${part}\0`);
  if (typeof part === 'object') return part;
  const bytes = Buffer.alloc(4);
  bytes.writeInt32BE(part);
  return bytes;
}

function int16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeInt16BE(value);
  return bytes;
}

export const READY = message('Z', Buffer.from('I'));
export const COMPLETE = message('C', 'SELECT');
export const COPY_OUT = message('H', Buffer.from([0, 0, 0]));
export const COPY_BOTH = message('W', Buffer.from([0, 0, 0]));
export const COPY_DONE = message('c');

export function copyData(payload: Buffer): Buffer {
  return message('d', payload);
}

export function columns(...names: readonly string[]): Buffer {
  const fields = names.map((name) =>
    Buffer.concat([Buffer.from(`${name}\0`), Buffer.alloc(6), Buffer.from([0, 0, 0, 25]), Buffer.alloc(8)]),
  );
  return message('T', int16(names.length), ...fields);
}

export function row(...values: readonly (string | null)[]): Buffer {
  const encoded = values.flatMap((value) =>
    value === null ? [-1] : [Buffer.byteLength(value), Buffer.from(value)],
  );
  return message('D', int16(values.length), ...encoded);
}

/** A result set with one column a value; names do not matter to a client. */
export function resultSet(
  rows: readonly (readonly (string | null)[])[],
  columnCount = rows[0]?.length ?? 1,
): Buffer {
  const names = Array.from({ length: columnCount }, (_none, index) => `column${index}`);
  return Buffer.concat([columns(...names), ...rows.map((values) => row(...values))]);
}

/** @param translated the severity in the server's language */
export function errorMessage(
  sqlState: string,
  text: string,
  severity = 'ERROR',
  translated = severity,
): Buffer {
  return message('E', `S${translated}`, `V${severity}`, `C${sqlState}`, `M${text}`, Buffer.from([0]));
}

export function notice(text: string): Buffer {
  return message('N', 'SWARNING', 'VWARNING', 'C01000', `M${text}`, Buffer.from([0]));
}

/** What an honest server says once it has let a client in. */
export function welcome(parameters: Readonly<Record<string, string>> = { server_version: '15.18' }): Buffer {
  return Buffer.concat([
    message('R', 0),
    ...Object.entries(parameters).map(([name, value]) => message('S', name, value)),
    message('K', 4711, 815),
    READY,
  ]);
}

/** CANCEL_REQUEST of src/include/libpq/pqcomm.h: not a session's first message, but a connection's only one. */
const CANCEL_REQUEST = 80_877_102;

export interface Script {
  /** What follows a startup message; `welcome()` where absent. */
  readonly startup?: (session: ScriptedSession) => Promise<void> | void;
  /** Answers a Query. */
  readonly query: (text: string, session: ScriptedSession) => Promise<void> | void;
  /** Takes what a client sends in a COPY: "d" with its payload, "c"; nothing happens where absent. */
  readonly copy?: (type: string, payload: Buffer, session: ScriptedSession) => Promise<void> | void;
  /** Answers a Terminate; ends the connection where absent. */
  readonly terminate?: (session: ScriptedSession) => void;
}

export class ScriptedSession {
  /** Counts the server's connections from 0. */
  readonly index: number;
  /** Commands so far, this one included. */
  readonly queries: string[] = [];
  readonly #socket: Socket;

  constructor(socket: Socket, index: number) {
    this.#socket = socket;
    this.index = index;
  }

  get closed(): boolean {
    return this.#socket.destroyed;
  }

  /** Sends, and waits while the client does not read. */
  async write(...chunks: readonly Buffer[]): Promise<void> {
    for (const chunk of chunks) {
      if (this.closed) return;
      if (this.#socket.write(chunk)) continue;
      // a client that goes away is no error of ours
      await Promise.race([once(this.#socket, 'drain'), once(this.#socket, 'close')]).catch(() => undefined);
    }
  }

  /** Sends what is written and ends the connection. */
  end(): void {
    this.#socket.end();
  }

  /** Drops the connection with a reset. */
  reset(): void {
    this.#socket.resetAndDestroy();
  }
}

export class ScriptedServer {
  readonly sessions: ScriptedSession[] = [];
  readonly #server: Server;
  readonly #script: Script;

  /** Listens until the test has ended. */
  static async listen(t: TestScope, script: Script): Promise<ScriptedServer> {
    const scripted = new ScriptedServer(script);
    const sockets = new Set<Socket>();
    scripted.#server.on('connection', (socket) => {
      sockets.add(socket);
      socket.on('close', () => sockets.delete(socket));
    });
    scripted.#server.listen(0, '127.0.0.1');
    await once(scripted.#server, 'listening');
    cleanup(t, async () => {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => scripted.#server.close(resolve));
    });
    return scripted;
  }

  private constructor(script: Script) {
    this.#script = script;
    this.#server = createServer((socket) => this.#serve(socket));
  }

  get port(): number {
    const address = this.#server.address();
    return address !== null && typeof address === 'object' ? address.port : 0;
  }

  get queries(): string[] {
    return this.sessions.flatMap((session) => session.queries);
  }

  settings(): ConnectionSettings {
    return resolveConnection({
      dbname: `host=127.0.0.1 port=${this.port} user=scripted sslmode=disable`,
      environment: {},
      homeDirectory: '/nonexistent',
      osUser: 'scripted',
    });
  }

  #serve(socket: Socket): void {
    let session: ScriptedSession | undefined;
    let received: Buffer = Buffer.alloc(0);
    let hasStarted = false;
    let turn = Promise.resolve();
    socket.on('error', () => undefined);
    socket.on('data', (chunk) => {
      received = Buffer.concat([received, chunk]);
      while (received.length >= (hasStarted ? 5 : 4)) {
        const bytes = received.readUInt32BE(hasStarted ? 1 : 0) + (hasStarted ? 1 : 0);
        if (received.length < bytes) return;
        const whole = received.subarray(0, bytes);
        received = received.subarray(bytes);
        if (!hasStarted && whole.length >= 8 && whole.readUInt32BE(4) === CANCEL_REQUEST) {
          // no session: a server takes it and closes
          socket.end();
          return;
        }
        const query = hasStarted ? whole : undefined;
        const current = (session ??= this.#beginSession(socket));
        turn = turn.then(() => this.#react(query, current));
        hasStarted = true;
      }
    });
  }

  #beginSession(socket: Socket): ScriptedSession {
    const session = new ScriptedSession(socket, this.sessions.length);
    this.sessions.push(session);
    return session;
  }

  async #react(whole: Buffer | undefined, session: ScriptedSession): Promise<void> {
    if (whole === undefined) {
      if (this.#script.startup === undefined) await session.write(welcome());
      else await this.#script.startup(session);
    } else if (whole[0] === 0x51) {
      const text = whole.toString('utf8', 5, whole.length - 1);
      session.queries.push(text);
      await this.#script.query(text, session);
    } else if (whole[0] === 0x64 || whole[0] === 0x63) {
      await this.#script.copy?.(String.fromCodePoint(whole[0]), whole.subarray(5), session);
    } else if (whole[0] === 0x58) {
      if (this.#script.terminate === undefined) session.end();
      else this.#script.terminate(session);
    }
  }
}
