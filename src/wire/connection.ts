/*
 * One connection to a PostgreSQL server, as the sources and `serve` use it. node-postgres opens it (TLS, SCRAM,
 * protocol start); from the first byte on, what the server sends passes a frame walker that bounds every length,
 * hands CopyData to whoever copies, uncollected, and everything else to pg-protocol's parser.
 *
 * Without TLS the socket reads into one reused buffer (`onread`): half the kernel time of fresh buffers.
 */
import net from 'node:net';
import { SYSTEM_CLOCK } from '../clock.js';
import { asConvoyError, ConvoyError } from '../errors.js';
import { MAX_BACKEND_MESSAGE_BYTES, MAX_COLLECTED_ROWS, MAX_COPY_DATA_BYTES } from '../limits.js';
import { requestCancel } from './cancel-request.js';
import { clientConfig } from './client-config.js';
import { connectError, mayRetryWithOtherTls } from './connect-error.js';
import { describeServer } from './connect-failure.js';
import type { ConnectionSettings } from './conninfo.js';
import type { Notice, OpenOptions } from './open-options.js';
import type { PgClient } from './pg-client.js';
import { isUnixSocket, lookupPassword } from './conninfo.js';
import { FrameWalker } from './frames.js';
import { openFittingHost } from './host-choice.js';
import { CommandRun, endlessAnswer, type CommandReaction, type ResultSet } from './command-run.js';
import { checkBackendMessage, ERROR_RESPONSE, severityOf } from './message-check.js';
import { pg } from './pg.js';
import { Reception } from './reception.js';
import { isServerError, serverError } from './server-error.js';
import { tlsAttempts, type TlsAttempt } from './tls-mode.js';

const COPY_DATA = 0x64;
const DATA_ROW = 0x44;
const COPY_DONE = 0x63;
const COPY_BOTH_RESPONSE = 0x57;
/** As large as the kernel fills in one read on a fast link; cache-warm because it is always the same. */
const RECEIVE_BUFFER_BYTES = 512 * 1024;
const KEEPALIVE_IDLE_MS = 30_000;

type DataListener = (chunk: Buffer) => void;

export class ServerConnection implements AsyncDisposable {
  /** ParameterStatus values, as last reported ("server_version", "TimeZone", ...). */
  readonly parameters = new Map<string, string>();
  /** Resolves, with the reason, when the connection ends without having been closed here. */
  readonly lost: Promise<ConvoyError>;
  /** Called with every notice; replaced by whoever wants them. */
  onNotice: (notice: Notice) => void = () => {};
  /** The password that let us in, for further connections; never printed. */
  password: string | undefined;

  readonly #client: PgClient;
  readonly #settings: ConnectionSettings;
  readonly #attempt: TlsAttempt;
  readonly #server: string;
  readonly #walker: FrameWalker;
  #stream: net.Socket;
  /** pg-protocol's parser, taken off the stream. */
  #toParser: DataListener = () => {};
  #run: CommandRun | undefined;
  #closed = false;
  /** Commands that have not been answered. */
  #running = 0;
  /** Rows of the answer to a query(), which node-postgres collects. */
  #queriedRows = 0;
  readonly #reception: Reception;
  #isChannelBound = false;
  #resolveLost: (reason: ConvoyError) => void = () => {};
  /** What the server sent that no server may send; the connection was dropped for it. */
  #violation: ConvoyError | undefined;
  /** Of the last ErrorResponse, untranslated. */
  #severity: string | undefined;

  /**
   * Opens a connection to the first of the hosts that is what `target_session_attrs` asks for.
   *
   * @throws ConvoyError `connection_failed`, with libpq's words
   */
  static open(settings: ConnectionSettings, options: OpenOptions): Promise<ServerConnection> {
    return openFittingHost(settings, options, (one, patient) => ServerConnection.#openOne(one, patient));
  }

  /** To one host, trying TLS as `sslmode` says. @throws ConvoyError `connection_failed`, the last attempt's reason */
  static async #openOne(settings: ConnectionSettings, options: OpenOptions): Promise<ServerConnection> {
    const attempts = tlsAttempts(settings);
    for (const [index, attempt] of attempts.entries()) {
      const connection = new ServerConnection(settings, options, attempt);
      try {
        options.signal?.throwIfAborted();
        options.signal?.addEventListener('abort', () => connection.abandon(), { once: true });
        await connection.#connect(settings);
        return connection;
      } catch (thrown) {
        connection.destroy();
        const error = connection.#violation ?? thrown;
        const isLast = index === attempts.length - 1;
        if (isLast || !mayRetryWithOtherTls(error)) throw connectError(settings, error);
      }
    }
    throw new ConvoyError('connection_failed', `no way to connect to ${describeServer(settings)}`);
  }

  private constructor(settings: ConnectionSettings, options: OpenOptions, attempt: TlsAttempt) {
    this.#reception = new Reception(options.clock ?? SYSTEM_CLOCK);
    this.#settings = settings;
    this.#attempt = attempt;
    this.#server = describeServer(settings);
    if (options.onNotice !== undefined) this.onNotice = options.onNotice;
    this.lost = new Promise((resolve) => (this.#resolveLost = resolve));
    this.#walker = new FrameWalker(
      {
        message: (type, frame) => this.#parse(type, frame),
        piece: (_type, chunk, isLast) => this.#copyPiece(chunk, isLast),
      },
      {
        streamed: (type) => type === COPY_DATA,
        maxBodyBytes: (type) => (type === COPY_DATA ? MAX_COPY_DATA_BYTES : MAX_BACKEND_MESSAGE_BYTES),
      },
    );
    const isPlain = attempt.kind === 'tls' || options.detachable === true;
    const receiveBuffer = options.receiveBuffer ?? Buffer.allocUnsafeSlow(RECEIVE_BUFFER_BYTES);
    this.#stream = isPlain ? new net.Socket() : this.#reusingSocket(receiveBuffer);
    this.#client = this.#createClient(settings, options, attempt);
    this.#client.on('error', (error) => this.#fail(error));
    this.#client.on('notice', (notice) => {
      const { severity, message, hint } = notice;
      this.onNotice({ severity: severity ?? 'NOTICE', message: message ?? '', hint });
    });
    this.#client.connection.on('parameterStatus', (message) => {
      this.parameters.set(message.parameterName, message.parameterValue);
    });
    this.#client.connection.on('authenticationSASL', ({ mechanisms }) => {
      // the choice that node-postgres makes
      this.#isChannelBound = attempt.kind === 'tls' && mechanisms.includes('SCRAM-SHA-256-PLUS');
    });
  }

  /** Process id of the server process behind this connection. */
  get processId(): number {
    return this.#client.processID;
  }

  /** For further connections to the very server that was reached: its one address, and the password that it took. */
  get reached(): ConnectionSettings {
    const { remoteAddress } = this.#stream;
    return {
      ...this.#settings,
      ...(this.password === undefined ? {} : { password: this.password }),
      ...(remoteAddress === undefined || isUnixSocket(this.#settings) ? {} : { hostaddr: remoteAddress }),
    };
  }

  /** When bytes came last, by the connection's clock; undefined while they are held back on this side. */
  get lastReceivedMs(): number | undefined {
    return this.#reception.lastMs;
  }

  /** "server at "db1", port 5432", for messages. */
  get server(): string {
    return this.#server;
  }

  /**
   * Runs one command through the simple query protocol and collects its result sets, each begun by a
   * RowDescription (the file list has no CommandComplete between its sets).
   *
   * @throws ConvoyError `server_error` with the server's words and SQLSTATE; the connection stays usable
   * @throws ConvoyError `connection_lost`
   */
  run(text: string, reaction: CommandReaction = {}): Promise<ResultSet[]> {
    const run = new CommandRun(text, reaction, (error) => this.#describeError(error));
    this.#run = run;
    this.#client.query(run);
    const { silenceLimitMs } = reaction;
    const answer = silenceLimitMs === undefined ? run.results : this.#resultsOrSilence(run, silenceLimitMs);
    return this.#count(answer);
  }

  async #count<Answer>(answer: Promise<Answer>): Promise<Answer> {
    this.#running += 1;
    try {
      return await answer;
    } finally {
      this.#running -= 1;
    }
  }

  async #resultsOrSilence(run: CommandRun, limitMs: number): Promise<ResultSet[]> {
    const end = this.limitSilence(limitMs);
    try {
      return await run.results;
    } finally {
      end();
    }
  }

  /**
   * From now on drops the connection when nothing has come for so long, while somebody was there to take it: for a server
   * that promises signs of life.
   *
   * @returns ends it
   */
  limitSilence(limitMs: number): () => void {
    return this.#reception.limitSilence(limitMs, () => {
      if (this.#closed) return;
      const message = `lost connection to ${this.#server}: nothing received for ${limitMs / 1000} s`;
      this.#fail(new ConvoyError('connection_lost', message));
      this.#stream.destroy();
    });
  }

  /** Runs one SQL statement with parameters; every value comes back as text or null. */
  async query(text: string, values: readonly unknown[] = []): Promise<(string | null)[][]> {
    this.#queriedRows = 0;
    try {
      const answer = this.#client.query<(string | null)[]>({
        text,
        values: [...values],
        rowMode: 'array',
        types: { getTypeParser: () => (value: unknown) => value },
      });
      const result = await this.#count(answer);
      return result.rows;
    } catch (error) {
      throw this.#violation ?? (this.#closed ? this.#describeLoss(error) : this.#describeError(error));
    }
  }

  /** Gives up the authenticated stream: from now on its bytes and its end are the caller's. Only if `detachable`. */
  detach(): net.Socket {
    this.#closed = true;
    for (const event of ['data', 'error', 'close', 'end']) this.#stream.removeAllListeners(event);
    return this.#stream;
  }

  /** Says goodbye and waits until the server has ended the connection, a second at most. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    const stream = this.#stream;
    const ended = new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, 1000);
      stream.once('close', () => {
        clearTimeout(timer);
        resolve();
      });
    });
    // a paused stream would never see the end
    stream.resume();
    void this.#client.end().catch(() => {});
    await ended;
    stream.destroy();
  }

  /** Drops the connection; whatever runs on it rejects. */
  destroy(): void {
    this.#closed = true;
    this.#stream.destroy();
    this.#run?.handleError(new Error('connection closed'));
  }

  /** As destroy(); the server is asked to stop what runs, which it may not notice by itself while it waits. */
  abandon(): void {
    const isBusy = !this.#closed && this.#running > 0;
    const address = { settings: this.reached, attempt: this.#attempt };
    this.destroy();
    if (isBusy) void requestCancel(address, this.#client);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #connect(settings: ConnectionSettings): Promise<void> {
    const connected = this.#client.connect();
    const { connection } = this.#client;
    if (this.#stream === connection.stream && !this.#client.ssl) this.#interpose(connection.stream);
    connection.once('sslconnect', () => this.#interpose(connection.stream));
    await connected;
    if (settings.channelBinding === 'require' && !this.#isChannelBound) {
      throw new ConvoyError(
        'connection_failed',
        'channel binding required, but server authenticated client without channel binding',
      );
    }
    if (settings.keepalives && !isUnixSocket(settings)) {
      this.#stream.setKeepAlive(true, settings.keepalivesIdleMs || KEEPALIVE_IDLE_MS);
    }
  }

  /** Puts the frame walker between the stream and pg-protocol's parser. */
  #interpose(stream: net.Socket): void {
    const listeners = stream.listeners('data') as DataListener[];
    stream.removeAllListeners('data');
    this.#toParser = (frame) => {
      for (const listener of listeners) listener.call(stream, frame);
    };
    stream.on('data', (chunk: Buffer) => this.#receive(chunk));
    this.#stream = stream;
  }

  #reusingSocket(buffer: Buffer): net.Socket {
    return new net.Socket({
      onread: {
        buffer,
        callback: (bytes: number) => {
          this.#receive(buffer.subarray(0, bytes));
          return true;
        },
      },
    } as net.SocketConstructorOpts);
  }

  #createClient(settings: ConnectionSettings, options: OpenOptions, attempt: TlsAttempt): PgClient {
    const config = {
      ...clientConfig(settings, options, attempt),
      password: () => this.#findPassword(settings, options),
      stream: () => this.#stream,
    };
    return new pg.Client(config) as PgClient;
  }

  async #findPassword(settings: ConnectionSettings, options: OpenOptions): Promise<string> {
    const found = lookupPassword(settings, { replication: options.replication === true });
    if (found.warning !== undefined)
      this.onNotice({ severity: 'WARNING', message: found.warning, hint: undefined });
    this.password = found.password ?? (await options.askPassword?.());
    if (this.password === undefined) {
      throw new ConvoyError('connection_failed', 'fe_sendauth: no password supplied');
    }
    return this.password;
  }

  #receive(chunk: Buffer): void {
    this.#reception.noteReceived();
    try {
      this.#walker.push(chunk);
    } catch (error) {
      this.#violation = this.#describeLoss(error);
      this.#fail(this.#violation);
      this.#stream.destroy();
    }
  }

  #parse(type: number, frame: Buffer): void {
    checkBackendMessage(type, frame);
    if (type === DATA_ROW && this.#run?.settled !== false) this.#countQueriedRow();
    if (type === ERROR_RESPONSE) this.#severity = severityOf(frame);
    if (type === COPY_DONE) this.#run?.endBoth();
    if (type === COPY_BOTH_RESPONSE) this.#beginBoth();
    try {
      this.#toParser(frame);
    } catch (error) {
      // pg-protocol's parser reads past the end of a body that is too short
      throw asConvoyError(error, 'untrusted_peer');
    }
  }

  #countQueriedRow(): void {
    this.#queriedRows += 1;
    if (this.#queriedRows > MAX_COLLECTED_ROWS) throw endlessAnswer();
  }

  #beginBoth(): void {
    if (this.#run !== undefined) return this.#run.beginBoth();
    throw new ConvoyError('untrusted_peer', 'the server began a copy that nobody asked for');
  }

  #copyPiece(chunk: Buffer, isLast: boolean): void {
    if (this.#run === undefined || this.#run.settled) {
      throw new ConvoyError('untrusted_peer', 'the server sent copy data that nobody asked for');
    }
    const wait = this.#run.copyPiece(chunk, isLast);
    if (wait !== undefined) this.#reception.holdBack(this.#stream, wait);
  }

  #fail(error: unknown): void {
    const reason = this.#describeLoss(error);
    this.#run?.handleError(reason);
    if (!this.#closed) this.#resolveLost(reason);
  }

  /** After an ERROR the connection stays usable, after FATAL and PANIC there is none. */
  #describeError(error: unknown): ConvoyError {
    if (!isServerError(error)) return this.#describeLoss(error);
    const isAnswer = (this.#severity ?? error.severity) === 'ERROR';
    return isAnswer ? serverError(error) : this.#describeLoss(error);
  }

  #describeLoss(error: unknown): ConvoyError {
    if (error instanceof ConvoyError) return error;
    if (isServerError(error)) return serverError(error, 'connection_lost');
    const reason = error instanceof Error ? error.message : String(error);
    return new ConvoyError('connection_lost', `lost connection to ${this.#server}: ${reason}`, {
      cause: error,
    });
  }
}
