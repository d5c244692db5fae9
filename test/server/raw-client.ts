/*
 * A client of `serve` that sees every message: protocol 3 by hand on a socket, so that the tests judge the bytes and not
 * what a library makes of them. Only the SCRAM calculation is node-postgres's.
 */
import { once } from 'node:events';
import { createRequire } from 'node:module';
import { connect, type Socket } from 'node:net';

interface SaslSession {
  readonly mechanism: string;
  readonly response: string;
}

interface SaslLibrary {
  startSession(mechanisms: readonly string[]): SaslSession;
  continueSession(session: SaslSession, password: string, serverData: string): Promise<void>;
  finalizeSession(session: SaslSession, serverData: string): void;
}

/** node-postgres's own client side of SCRAM; not part of its public interface. */
export const sasl = createRequire(import.meta.url)('pg/lib/crypto/sasl.js') as SaslLibrary;

export interface RawMessage {
  /** The type byte as a letter. */
  readonly type: string;
  readonly body: Buffer;
}

export interface ErrorFields {
  readonly severity: string;
  readonly sqlState: string;
  readonly message: string;
}

export type StartupParameters = Readonly<Record<string, string>>;

export function int32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32BE(value);
  return bytes;
}

/** A message with a type byte. */
export function message(type: string, body: Buffer | string): Buffer {
  const bytes = Buffer.from(body);
  return Buffer.concat([Buffer.from(type), int32(bytes.length + 4), bytes]);
}

/** A packet without one: the first of a connection. */
export function packet(code: number, body: Buffer | string = ''): Buffer {
  const bytes = Buffer.from(body);
  return Buffer.concat([int32(bytes.length + 8), int32(code), bytes]);
}

export const SSL_REQUEST = packet(80877103);
export const GSSENC_REQUEST = packet(80877104);

export function startupPacket(parameters: StartupParameters, version = 0x30000): Buffer {
  const pairs = Object.entries(parameters).map(([name, value]) => `${name}\0${value}\0`);
  return packet(version, `${pairs.join('')}\0`);
}

export class RawClient {
  readonly socket: Socket;
  readonly parameters = new Map<string, string>();
  processId = 0;
  secretKey: Buffer = Buffer.alloc(0);
  #received: Buffer[] = [];
  #receivedBytes = 0;
  #isClosed = false;
  #wake: () => void = () => {};

  static async connect(port: number): Promise<RawClient> {
    const socket = connect(port, '127.0.0.1');
    await once(socket, 'connect');
    return new RawClient(socket);
  }

  /** Connected and logged in, ready for commands. */
  static async logIn(
    port: number,
    user: string,
    password: string,
    more: StartupParameters = {},
  ): Promise<RawClient> {
    const client = await RawClient.connect(port);
    await client.logIn(user, password, more);
    return client;
  }

  constructor(socket: Socket) {
    this.socket = socket;
    socket.on('data', (chunk: Buffer) => {
      this.#received.push(chunk);
      this.#receivedBytes += chunk.length;
      this.#wake();
    });
    const close = (): void => {
      this.#isClosed = true;
      this.#wake();
    };
    socket.on('error', close);
    socket.on('end', close);
    socket.on('close', close);
  }

  /** @throws Error with the server's ErrorResponse, as `28P01 FATAL: password authentication failed ...` */
  async logIn(user: string, password: string, more: StartupParameters = {}): Promise<void> {
    this.socket.write(startupPacket({ user, replication: 'true', ...more }));
    await this.authenticate(password);
  }

  /** From the first authentication request to ReadyForQuery. */
  async authenticate(password: string): Promise<void> {
    let session: SaslSession | undefined;
    for (;;) {
      const { type, body } = await this.next();
      if (type === 'E') throw new Error(describeError(body));
      if (type === 'Z') return;
      if (type === 'S') this.#setParameter(body);
      if (type === 'K') [this.processId, this.secretKey] = [body.readInt32BE(0), body.subarray(4)];
      if (type !== 'R') continue;
      const data = body.toString('utf8', 4);
      switch (body.readInt32BE(0)) {
        case 10: {
          session = sasl.startSession(data.split('\0'));
          const response = Buffer.from(session.response);
          this.send(
            'p',
            Buffer.concat([Buffer.from(`${session.mechanism}\0`), int32(response.length), response]),
          );
          break;
        }
        case 11:
          if (session === undefined) throw new Error('SASLContinue without SASL');
          await sasl.continueSession(session, password, data);
          this.send('p', session.response);
          break;
        case 12:
          if (session === undefined) throw new Error('SASLFinal without SASL');
          sasl.finalizeSession(session, data);
          break;
        default:
      }
    }
  }

  send(type: string, body: Buffer | string = ''): void {
    this.socket.write(message(type, body));
  }

  /** Sends a Query and returns its whole answer, ReadyForQuery included. */
  async query(text: string): Promise<RawMessage[]> {
    this.send('Q', `${text}\0`);
    return this.untilReady();
  }

  async untilReady(): Promise<RawMessage[]> {
    const messages: RawMessage[] = [];
    for (;;) {
      const next = await this.next();
      messages.push(next);
      if (next.type === 'Z') return messages;
    }
  }

  /** @throws Error where the connection ends before a whole message is there */
  async next(): Promise<RawMessage> {
    const head = await this.take(5);
    const body = await this.take(head.readInt32BE(1) - 4);
    return { type: head.toString('latin1', 0, 1), body };
  }

  /** So many bytes as they come. */
  async take(bytes: number): Promise<Buffer> {
    while (this.#receivedBytes < bytes) {
      if (this.#isClosed) throw new Error('the server closed the connection');
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
    const all =
      this.#received.length === 1 ? (this.#received[0] ?? Buffer.alloc(0)) : Buffer.concat(this.#received);
    this.#received = all.length > bytes ? [all.subarray(bytes)] : [];
    this.#receivedBytes -= bytes;
    return all.subarray(0, bytes);
  }

  /** Resolves when the server has closed the connection, with what it sent before. */
  async closed(): Promise<RawMessage[]> {
    const messages: RawMessage[] = [];
    while (!this.#isClosed || this.#receivedBytes >= 5) {
      if (this.#receivedBytes >= 5) messages.push(await this.next());
      else await new Promise<void>((resolve) => (this.#wake = resolve));
    }
    return messages;
  }

  end(): void {
    this.socket.end(message('X', ''));
  }

  #setParameter(body: Buffer): void {
    const [name, value] = body.toString().split('\0');
    this.parameters.set(name ?? '', value ?? '');
  }
}

/** Message types in order, runs of CopyData and DataRow as one, signs of life left out: "TD*C", "Hd*cN". */
export function flow(messages: readonly RawMessage[]): string {
  return messages
    .filter(({ type }) => type !== 'S')
    .map(({ type }) => type)
    .join('')
    .replaceAll(/d+/g, 'd*')
    .replaceAll(/D{2,}/g, 'D*');
}

export function errorFields(body: Buffer): ErrorFields {
  const fields = new Map(
    body
      .toString()
      .split('\0')
      .map((field) => [field.slice(0, 1), field.slice(1)]),
  );
  return {
    severity: fields.get('S') ?? '',
    sqlState: fields.get('C') ?? '',
    message: fields.get('M') ?? '',
  };
}

/** `SQLSTATE SEVERITY: message` */
export function describeError(body: Buffer): string {
  const { severity, sqlState, message: text } = errorFields(body);
  return `${sqlState} ${severity}: ${text}`;
}

/** The first error of an answer, described; undefined where there is none. */
export function errorOf(messages: readonly RawMessage[]): string | undefined {
  const found = messages.find(({ type }) => type === 'E');
  return found === undefined ? undefined : describeError(found.body);
}

/** Values of a DataRow. */
export function rowValues({ body }: RawMessage): (string | null)[] {
  const values: (string | null)[] = [];
  let offset = 2;
  for (let left = body.readInt16BE(0); left > 0; left -= 1) {
    const length = body.readInt32BE(offset);
    offset += 4;
    values.push(length < 0 ? null : body.toString('utf8', offset, offset + length));
    offset += Math.max(length, 0);
  }
  return values;
}

/** The rows of an answer by RowDescription. */
export function resultSets(messages: readonly RawMessage[]): (string | null)[][][] {
  const sets: (string | null)[][][] = [];
  for (const each of messages) {
    if (each.type === 'T') sets.push([]);
    if (each.type === 'D') sets.at(-1)?.push(rowValues(each));
  }
  return sets;
}

/** The bytes of a COPY. */
export function copyBytes(messages: readonly RawMessage[]): Buffer {
  return Buffer.concat(messages.filter(({ type }) => type === 'd').map(({ body }) => body));
}
