/*
 * A client's connection once its kind (plain or TLS) is settled: messages in, bounded and in order; messages out, many
 * to a system call and with back-pressure. Made by session.ts, used by everything that talks to the client.
 */
import type { Socket } from 'node:net';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { asConvoyError, ConvoyError } from '../errors.js';
import { copyDataHeader } from '../wire/backend-messages.js';
import { FrameWalker } from '../wire/frames.js';
import { maxMessageBytes } from './client-message-limits.js';

/** A client's message; `frame` is whole, body from offset 5, and belongs to the receiver. */
export interface ClientMessage {
  readonly type: number;
  readonly frame: Buffer;
}

/** The most that waits in memory for a busy session; a client that sends more is not read from. */
const MAX_WAITING_BYTES = 1024 * 1024;

/** Unsent bytes up to which it is worth going on without waiting. */
const UNSENT_BYTES = 256 * 1024;

/** A client that takes nothing for so long is given up: nobody suspends a backup for longer. */
const STALLED_CLIENT_MS = 30 * 60 * 1000;

/** The longest that a busy session keeps the others of its process waiting. */
const TURN_MS = 10;

/** A payload on its way; settled once, by whoever first knows that its bytes have left. */
interface Payload {
  onSent: (() => void) | undefined;
}

export class ClientChannel {
  /** Aborted when the client is gone or given up; the reason is a ConvoyError. */
  readonly gone: AbortSignal;
  readonly #gone = new AbortController();
  readonly #stream: Socket;
  readonly #walker: FrameWalker;
  readonly #waiting: ClientMessage[] = [];
  readonly #unsent: Payload[] = [];
  #waitingBytes = 0;
  #violation: ConvoyError | undefined;
  #wakeReceiver: (() => void) | undefined;
  #isLoggedIn = false;
  #isInsideMessage = false;
  #isCorked = false;
  #turnStart = performance.now();
  #tap: ((message: ClientMessage) => boolean) | undefined;

  constructor(stream: Socket) {
    this.gone = this.#gone.signal;
    this.#stream = stream;
    this.#walker = new FrameWalker(
      {
        message: (type, frame) => this.#take({ type, frame: Buffer.from(frame) }),
        piece: () => {},
      },
      { streamed: () => false, maxBodyBytes: (type) => maxMessageBytes(type, this.#isLoggedIn) },
    );
    stream.on('data', (chunk: Buffer) => this.#receive(chunk));
    stream.on('error', (error) => this.#lose(error.message));
    stream.on('end', () => this.#lose('the client closed the connection'));
    stream.on('close', () => this.#lose('the connection is closed'));
    stream.resume();
  }

  /** From now on the client may send what a session takes, not only passwords. */
  allowCommands(): void {
    this.#isLoggedIn = true;
  }

  /**
   * The next message, in the order sent.
   *
   * @param ended stops the wait; its reason is thrown
   * @throws ConvoyError when nothing is left and the client is gone, or has broken the protocol (08P01)
   */
  async receive(ended: AbortSignal = this.gone): Promise<ClientMessage> {
    const wake = (): void => this.#wakeReceiver?.();
    ended.addEventListener('abort', wake);
    try {
      return await this.#nextMessage(ended);
    } finally {
      ended.removeEventListener('abort', wake);
    }
  }

  /** Offers each message to `tap` first, until it is called with undefined; true: the tap has taken it. */
  tapMessages(tap: ((message: ClientMessage) => boolean) | undefined): void {
    this.#tap = tap;
  }

  /** Stops and starts reading, for a relay whose other side does not keep up. */
  pauseReading(isPaused: boolean): void {
    if (isPaused) this.#stream.pause();
    else this.#stream.resume();
  }

  /**
   * Sends whole messages, at the end of this turn of the event loop at the latest. Where a relayed message was broken
   * off, nothing can be said any more.
   */
  send(...messages: readonly Uint8Array[]): void {
    if (this.gone.aborted || this.#isInsideMessage) return;
    this.#cork();
    for (const message of messages) this.#stream.write(message);
  }

  /** Sends bytes as another server sent them, which may end inside a message. */
  sendRelayed(chunk: Uint8Array, endsInsideMessage: boolean): void {
    this.#isInsideMessage = false;
    this.send(chunk);
    this.#isInsideMessage = endsInsideMessage;
  }

  /**
   * Sends one CopyData without copying its payload.
   *
   * @param payload borrowed until `onSent` is called: the bytes have left, or never will
   */
  sendCopyData(payload: Uint8Array, onSent: () => void): void {
    if (this.gone.aborted) {
      onSent();
      return;
    }
    this.#cork();
    const entry: Payload = { onSent };
    this.#unsent.push(entry);
    this.#stream.write(copyDataHeader(payload.byteLength));
    this.#stream.write(payload, () => settle(entry));
  }

  /**
   * To be awaited regularly by whoever sends much: waits while the client does not keep up, and gives other sessions
   * their turn.
   *
   * @throws ConvoyError when the client is gone
   */
  async paced(): Promise<void> {
    await this.whenTaken();
    if (performance.now() - this.#turnStart > TURN_MS) {
      this.#uncork();
      await nextTurn();
      this.#turnStart = performance.now();
    }
    this.gone.throwIfAborted();
  }

  /** Undefined while the client keeps up, else a promise that resolves when it has, or is gone. */
  whenTaken(): Promise<void> | undefined {
    if (this.#stream.writableLength < UNSENT_BYTES) return undefined;
    this.#uncork();
    return this.#stream.writableLength < UNSENT_BYTES ? undefined : this.#drained();
  }

  /** Ends the connection after what was sent; resolves when it is closed, after `limitMs` at the latest. */
  async end(limitMs: number): Promise<void> {
    this.#uncork();
    await endStream(this.#stream, limitMs);
  }

  /** Drops the connection. */
  destroy(reason: string): void {
    this.#lose(reason);
    this.#stream.destroy();
  }

  async #nextMessage(ended: AbortSignal): Promise<ClientMessage> {
    for (;;) {
      const message = this.#waiting.shift();
      if (message !== undefined) {
        this.#waitingBytes -= message.frame.length;
        if (this.#waitingBytes < MAX_WAITING_BYTES) this.#stream.resume();
        return message;
      }
      ended.throwIfAborted();
      if (this.#violation !== undefined) throw this.#violation;
      await new Promise<void>((resolve) => (this.#wakeReceiver = resolve));
    }
  }

  async #drained(): Promise<void> {
    const stream = this.#stream;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(() => this.destroy('the client reads nothing'), STALLED_CLIENT_MS);
      const goOn = (): void => {
        clearTimeout(timer);
        stream.off('drain', goOn);
        this.gone.removeEventListener('abort', goOn);
        resolve();
      };
      stream.on('drain', goOn);
      this.gone.addEventListener('abort', goOn);
      if (this.gone.aborted) goOn();
    });
    this.#turnStart = performance.now();
  }

  #cork(): void {
    if (this.#isCorked) return;
    this.#isCorked = true;
    this.#stream.cork();
    process.nextTick(() => this.#uncork());
  }

  #uncork(): void {
    if (!this.#isCorked) return;
    this.#isCorked = false;
    this.#stream.uncork();
    const unsent = this.#unsent.splice(0);
    if (this.#stream.writableLength === 0) {
      // All of it is with the kernel already. The callbacks of the writes come a turn later; buffers that are free
      // now are still in the processor's cache.
      for (const payload of unsent) settle(payload);
    }
  }

  #receive(chunk: Buffer): void {
    try {
      this.#walker.push(chunk);
    } catch (error) {
      this.#violation = asConvoyError(error, 'untrusted_peer');
      this.#stream.pause();
      this.#stream.removeAllListeners('data');
      this.#wakeReceiver?.();
    }
  }

  #take(message: ClientMessage): void {
    if (this.#tap?.(message) === true) return;
    this.#waiting.push(message);
    this.#waitingBytes += message.frame.length;
    if (this.#waitingBytes >= MAX_WAITING_BYTES) this.#stream.pause();
    this.#wakeReceiver?.();
  }

  #lose(reason: string): void {
    if (this.gone.aborted) return;
    this.#gone.abort(new ConvoyError('connection_lost', `connection to client lost: ${reason}`));
    this.#wakeReceiver?.();
  }
}

function settle(payload: Payload): void {
  const { onSent } = payload;
  payload.onSent = undefined;
  onSent?.();
}

/**
 * Ends a connection after what was written. What the client still sends is thrown away: unread, it would turn the end
 * into a reset that takes our last words with it.
 */
export async function endStream(stream: Socket, limitMs: number): Promise<void> {
  if (stream.destroyed) return;
  await new Promise<void>((resolve) => {
    const timer = setTimeout(resolve, limitMs);
    stream.once('close', () => {
      clearTimeout(timer);
      resolve();
    });
    stream.removeAllListeners('data');
    stream.on('data', () => {});
    stream.resume();
    stream.end();
  });
  stream.destroy();
}
