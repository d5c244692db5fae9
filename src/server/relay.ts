/*
 * Passes the commands that are not pgconvoy's own to a real walsender of the server behind, byte for byte both ways
 * until its ReadyForQuery. The walsender is opened on first use and kept; it acts with the client's own role, so
 * nobody may do through `serve` what he may not do on the server. Used by session.ts.
 */
import type { Socket } from 'node:net';
import { asConvoyError, ConvoyError } from '../errors.js';
import { MAX_COPY_DATA_BYTES } from '../limits.js';
import { FrameWalker } from '../wire/frames.js';
import type { ClientChannel, ClientMessage } from './client-channel.js';
import type { ServerAccess } from './server-access.js';

const QUERY = 0x51;
const TERMINATE = 0x58;
const READY_FOR_QUERY = 0x5a;
const COPY_IN_RESPONSE = 0x47;
const COPY_BOTH_RESPONSE = 0x57;

/** Client messages that belong to a running COPY: CopyData, CopyDone, CopyFail, Flush, Sync. */
const COPY_MESSAGES: ReadonlySet<number> = new Set([0x64, 0x63, 0x66, 0x48, 0x53]);

export interface RelayIdentity {
  readonly role: string;
  readonly applicationName: string;
}

export class Relay {
  readonly #channel: ClientChannel;
  readonly #access: ServerAccess;
  readonly #identity: RelayIdentity;
  readonly #onLost: (reason: ConvoyError) => void;
  #walsender: Walsender | undefined;

  /** @param onLost called when the walsender has ended by itself: the session is over then, too */
  constructor(
    channel: ClientChannel,
    access: ServerAccess,
    identity: RelayIdentity,
    onLost: (reason: ConvoyError) => void,
  ) {
    this.#channel = channel;
    this.#access = access;
    this.#identity = identity;
    this.#onLost = onLost;
  }

  /**
   * Runs one command; its whole answer, ReadyForQuery included, has been sent when the promise resolves.
   *
   * @param query the client's Query message
   * @param cancelled aborted by a CancelRequest; the walsender answers for itself
   * @throws ConvoyError `connection_failed` where no walsender can be had: the client may go on
   * @throws ConvoyError `connection_lost` where client or walsender is gone: the session is over
   */
  async run(query: Buffer, cancelled: AbortSignal): Promise<void> {
    this.#walsender ??= await this.#open();
    const walsender = this.#walsender;
    const cancel = (): void => {
      // without an answer from the server the command just goes on, as after any lost cancel request
      this.#access.cancelBackend(walsender.processId).catch(() => {});
    };
    cancelled.addEventListener('abort', cancel);
    if (cancelled.aborted) cancel();
    try {
      await walsender.run(query);
    } finally {
      cancelled.removeEventListener('abort', cancel);
    }
  }

  /** Ends the walsender, in order where nothing runs on it. */
  close(): void {
    this.#walsender?.close();
    this.#walsender = undefined;
  }

  async #open(): Promise<Walsender> {
    const { role, applicationName } = this.#identity;
    const connection = await this.#access.openWalsender(role, applicationName);
    const { processId } = connection;
    return new Walsender(this.#channel, connection.detach(), processId, this.#onLost);
  }
}

class Walsender {
  readonly processId: number;
  readonly #channel: ClientChannel;
  readonly #stream: Socket;
  readonly #walker: FrameWalker;
  readonly #onLost: (reason: ConvoyError) => void;
  #isClosed = false;
  /** Client data is welcome: the command is a COPY from the client, or in both directions. */
  #isTakingCopy = false;
  /** The chunk in hand brings ReadyForQuery. */
  #endsCommand = false;
  #settleRun: ((error?: ConvoyError) => void) | undefined;

  constructor(
    channel: ClientChannel,
    stream: Socket,
    processId: number,
    onLost: (reason: ConvoyError) => void,
  ) {
    this.processId = processId;
    this.#channel = channel;
    this.#stream = stream;
    this.#onLost = onLost;
    this.#walker = new FrameWalker(
      { message: () => {}, piece: (type, _chunk, isLast) => this.#see(type, isLast) },
      { streamed: () => true, maxBodyBytes: () => MAX_COPY_DATA_BYTES },
    );
    stream.on('data', (chunk: Buffer) => this.#receive(chunk));
    stream.on('error', (error) => this.#lose(error.message));
    stream.on('end', () => this.#lose('the server closed the connection'));
    stream.on('close', () => this.#lose('the connection is closed'));
    channel.gone.addEventListener('abort', () => this.close(), { once: true });
    stream.resume();
  }

  async run(query: Buffer): Promise<void> {
    const finished = new Promise<void>((resolve, reject) => {
      this.#settleRun = (error) => {
        this.#settleRun = undefined;
        if (error === undefined) resolve();
        else reject(error);
      };
    });
    this.#isTakingCopy = false;
    this.#channel.tapMessages((message) => this.#takeFromClient(message));
    try {
      this.#stream.write(query);
      await finished;
    } finally {
      this.#channel.tapMessages(undefined);
    }
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    if (this.#settleRun !== undefined) {
      this.#stream.destroy();
      this.#settleRun(new ConvoyError('connection_lost', 'the client closed the connection'));
      return;
    }
    this.#stream.end(Buffer.from([TERMINATE, 0, 0, 0, 4]), () => this.#stream.destroy());
  }

  /** True where the message belongs to the running command; others wait until it has ended. */
  #takeFromClient({ type, frame }: ClientMessage): boolean {
    // A query inside a COPY from the client is an error that the walsender answers itself.
    const belongs = COPY_MESSAGES.has(type) || type === TERMINATE || (type === QUERY && this.#isTakingCopy);
    if (!belongs) return false;
    if (!this.#stream.write(frame)) {
      this.#channel.pauseReading(true);
      this.#stream.once('drain', () => this.#channel.pauseReading(false));
    }
    return true;
  }

  #receive(chunk: Buffer): void {
    try {
      this.#endsCommand = false;
      this.#walker.push(chunk);
      this.#channel.sendRelayed(chunk, !this.#walker.atBoundary);
      if (this.#endsCommand) this.#settleRun?.();
    } catch (error) {
      this.#lose(asConvoyError(error, 'connection_lost').message);
      return;
    }
    const wait = this.#channel.whenTaken();
    if (wait === undefined) return;
    this.#stream.pause();
    wait.then(
      () => this.#stream.resume(),
      () => this.#stream.destroy(),
    );
  }

  #see(type: number, isLast: boolean): void {
    if (!isLast) return;
    if (type === COPY_IN_RESPONSE || type === COPY_BOTH_RESPONSE) this.#isTakingCopy = true;
    if (type === READY_FOR_QUERY) this.#endsCommand = true;
  }

  /** The walsender's last words, such as the reason of its end, have been passed on. */
  #lose(reason: string): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#stream.destroy();
    const loss = new ConvoyError('connection_lost', `lost connection to the walsender: ${reason}`);
    this.#settleRun?.(loss);
    this.#onLost(loss);
  }
}
