/*
 * Receives WAL over a connection of its own while something else goes on, as pg_basebackup -X stream does: from the start of
 * a segment until it is told where to stop, from one timeline to the next. Knows the replication protocol and segments, and
 * neither backups nor targets; used by coordinator/wal-stream.ts.
 * Rules: ReceiveXlogStream and HandleCopyStream in PostgreSQL's src/bin/pg_basebackup/receivelog.c.
 */
import { asConvoyError, ConvoyError } from '../errors.js';
import { READ_SILENCE_MS } from '../limits.js';
import { formatLsn, INVALID_LSN, type Lsn } from '../lsn.js';
import { segmentEnd } from '../pgdata/wal-names.js';
import type { ConnectionSettings } from '../wire/conninfo.js';
import type { ServerConnection } from '../wire/connection.js';
import type { CopyBoth } from '../wire/copy-both.js';
import type { Clock } from '../clock.js';
import { explainSlotLoss } from '../slot-loss.js';
import { acquireSlot, quoteSlot, type SlotChoice } from './replication-slot.js';
import { SegmentWriter, type WalSink } from './segment-writer.js';
import { StreamWatch } from './stream-watch.js';
import { decodeNextTimeline, fetchHistory, type TimelinePoint } from './timeline-switch.js';
import { openWalConnection, type WalConnectionOptions } from './wal-connection.js';
import { encodeStatusUpdate, WalMessageReader, type WalMessageHandler } from './wal-messages.js';

/** Once the end is known, WAL keeps coming until it is there. */
const PROGRESS_LIMIT_MS = 60_000;
const PROGRESS_TICK_MS = 1000;
/** undefined_file: the walsender cannot find a segment. */
const SEGMENT_GONE = '58P01';

export interface WalReceiverOptions extends WalConnectionOptions {
  readonly systemIdentifier: bigint;
  readonly segmentBytes: number;
  readonly slot: SlotChoice;
  /** 0: no status updates but those that the server asks for. */
  readonly statusIntervalMs: number;
  readonly clock: Clock;
}

export interface WalEnd {
  readonly lsn: Lsn;
  /** The server has switched to a new segment there, and sends this one whole. */
  readonly endsSegment: boolean;
}

/** Call order: open, start, finish, each once; destroy at any time. */
export class WalReceiver {
  /** Resolves when receiving has failed; never after `finish` has returned. */
  readonly failed: Promise<ConvoyError>;
  readonly #connection: ServerConnection;
  readonly #options: WalReceiverOptions;
  /** The slot in use. */
  readonly slot: string | undefined;
  /** The server's own when the connection was opened. */
  readonly #serverTimeline: number;
  readonly #watch: StreamWatch;
  #sink: WalSink | undefined;
  #segments: SegmentWriter | undefined;
  #received: Promise<void> | undefined;
  #copy: CopyBoth | undefined;
  /** Where to stop; undefined while that is not known. */
  #end: Lsn | undefined;
  #hasStopped = false;
  #failure: ConvoyError | undefined;
  #resolveFailed: (reason: ConvoyError) => void = () => {};

  /**
   * Connects and acquires the slot, so that from now on the server keeps its WAL.
   *
   * @throws ConvoyError `connection_failed`; `server_error` for the slot; `untrusted_peer` for another cluster
   */
  static async open(settings: ConnectionSettings, options: WalReceiverOptions): Promise<WalReceiver> {
    const connection = await openWalConnection(settings, options);
    try {
      const timeline = await identify(connection, options.systemIdentifier);
      const slot = await acquireSlot(connection, options.slot);
      return new WalReceiver(connection, options, slot, timeline);
    } catch (error) {
      connection.destroy();
      throw error;
    }
  }

  private constructor(
    connection: ServerConnection,
    options: WalReceiverOptions,
    slot: string | undefined,
    serverTimeline: number,
  ) {
    this.#connection = connection;
    this.#options = options;
    this.slot = slot;
    this.#serverTimeline = serverTimeline;
    this.failed = new Promise((resolve) => (this.#resolveFailed = resolve));
    void connection.lost.then((reason) => this.#fail(this.#streamError(reason)));
    this.#watch = new StreamWatch({
      clock: options.clock,
      server: connection.server,
      statusIntervalMs: options.statusIntervalMs,
      sendStatus: (wantsReply) => this.#sendStatus(wantsReply),
      onSilence: (reason) => this.#fail(this.#streamError(reason)),
    });
  }

  /** Up to where WAL has been written here; INVALID_LSN before any has come. */
  get position(): Lsn {
    return this.#segments?.position ?? INVALID_LSN;
  }

  /**
   * Streams from the start of the segment that holds `from` until told to finish. Resolves once the server has agreed.
   *
   * @throws ConvoyError `server_error`, `wal_missing`, `connection_lost`, `untrusted_peer`
   */
  async start(from: TimelinePoint, sink: WalSink): Promise<void> {
    if (from.timeline > this.#serverTimeline) {
      throw new ConvoyError(
        'untrusted_peer',
        `starting timeline ${from.timeline} is not present in the server`,
      );
    }
    this.#sink = sink;
    const segments = new SegmentWriter(sink, this.#options.segmentBytes);
    this.#segments = segments;
    await new Promise<void>((resolve, reject) => {
      const received = this.#receive(from, segments, resolve);
      this.#received = received;
      received.catch((error: unknown) => {
        this.#fail(asConvoyError(error, 'connection_lost'));
        reject(this.#failure ?? error);
      });
    });
  }

  /**
   * Waits until the WAL up to there has been written, and ends the stream and the connection. The slot of the connection's
   * own goes with it.
   *
   * @throws ConvoyError what `failed` resolves with
   */
  async finish({ lsn, endsSegment }: WalEnd): Promise<void> {
    this.#end = endsSegment ? segmentEnd(lsn, this.#options.segmentBytes) : lsn;
    const endTicks = this.#limitWaiting(this.#end);
    try {
      this.#stopAtEnd();
      await Promise.race([this.#received, this.failed.then((reason) => Promise.reject(reason))]);
      await this.#connection.close();
    } finally {
      endTicks();
    }
  }

  /** Drops the connection and gives up what is being written. */
  destroy(): void {
    this.#watch.end();
    this.#connection.destroy();
    this.#sink?.abandon();
    this.#sink = undefined;
  }

  /** @param onBegun called when the first timeline is being streamed */
  async #receive(from: TimelinePoint, segments: SegmentWriter, onBegun: () => void): Promise<void> {
    for (let at: TimelinePoint | undefined = from; at !== undefined && !this.#hasStopped;) {
      // its history file first: whoever finds a segment of a timeline knows where that comes from
      const history = await fetchHistory(this.#connection, at.timeline);
      if (history !== undefined) this.#sink?.writeHistory(history.name, history.content);
      at = await this.#receiveTimeline(at, segments, onBegun);
      // oxlint-disable-next-line eslint/no-await-in-loop
      await segments.endTimeline();
    }
  }

  /** @returns where the next timeline begins; undefined where the end was reached */
  async #receiveTimeline(
    { timeline, lsn }: TimelinePoint,
    segments: SegmentWriter,
    onBegun: () => void,
  ): Promise<TimelinePoint | undefined> {
    const slot = this.slot === undefined ? '' : `SLOT ${quoteSlot(this.slot)} `;
    const start = segments.beginTimeline(timeline, lsn);
    const reader = new WalMessageReader(this.#handlerFor(segments));
    let hasBegun = false;
    try {
      const sets = await this.#connection.run(
        `START_REPLICATION ${slot}${formatLsn(start)} TIMELINE ${timeline}`,
        {
          silenceLimitMs: READ_SILENCE_MS,
          both: (copy) => {
            hasBegun = true;
            this.#copy = copy;
            this.#watch.begin();
            onBegun();
            this.#stopAtEnd();
          },
          copy: (piece, isLast) => {
            this.#watch.received();
            const wait = reader.push(piece, isLast);
            if (wait !== undefined) this.#watch.holdBack(wait);
            return wait;
          },
        },
      );
      if (this.#hasStopped) return undefined;
      return decodeNextTimeline(sets, { timeline, lsn: segments.position });
    } catch (error) {
      throw hasBegun ? this.#streamError(error) : refusal(error);
    } finally {
      this.#watch.end();
      this.#copy = undefined;
    }
  }

  #handlerFor(segments: SegmentWriter): WalMessageHandler {
    return {
      wal: (position, bytes) => {
        // what is under way when the client has ended its half
        if (this.#hasStopped) return undefined;
        const room = this.#end === undefined ? bytes.length : Number(this.#end - position);
        const wait = segments.write(position, bytes.subarray(0, room));
        this.#stopAtEnd();
        return wait;
      },
      keepalive: (wantsReply) => {
        if (wantsReply) this.#sendStatus(false);
      },
    };
  }

  #stopAtEnd(): void {
    if (this.#copy === undefined || this.#end === undefined || this.position < this.#end) return;
    this.#hasStopped = true;
    this.#copy.end();
  }

  #sendStatus(wantsReply: boolean): void {
    const { position: written, endOfSegments } = this.#segments ?? {
      position: INVALID_LSN,
      endOfSegments: INVALID_LSN,
    };
    // without a slot nothing is kept for us, and a position might make us a synchronous standby
    const flushed = this.slot === undefined ? INVALID_LSN : endOfSegments;
    this.#copy?.send(encodeStatusUpdate({ written, flushed, wantsReply }, Date.now()));
    this.#watch.statusSent();
  }

  /** A server that is alive and sends no WAL would be waited for without end. @returns ends the limit */
  #limitWaiting(end: Lsn): () => void {
    const { clock } = this.#options;
    let seen = this.position;
    let seenMs = clock.now();
    return clock.every(PROGRESS_TICK_MS, () => {
      if (this.position !== seen) {
        seen = this.position;
        seenMs = clock.now();
      } else if (clock.now() - seenMs >= PROGRESS_LIMIT_MS) {
        const message = `the server has not sent WAL up to ${formatLsn(end)}, only up to ${formatLsn(seen)}`;
        this.#fail(new ConvoyError('wal_missing', message));
      }
    });
  }

  #fail(reason: ConvoyError): void {
    if (this.#failure !== undefined) return;
    this.#failure = reason;
    this.#resolveFailed(reason);
    this.destroy();
  }

  /** The stream ended with an error. */
  #streamError(error: unknown): ConvoyError {
    const reason = described(error, 'could not receive data from WAL stream');
    return this.slot === undefined ? reason : explainSlotLoss(reason);
  }
}

/** @returns the timeline that the server is on */
async function identify(connection: ServerConnection, systemIdentifier: bigint): Promise<number> {
  const [set] = await connection.run('IDENTIFY_SYSTEM', { silenceLimitMs: READ_SILENCE_MS });
  const [identifier, timeline] = set?.rows[0] ?? [];
  if (identifier !== String(systemIdentifier)) {
    const message = 'system identifier does not match between base backup and streaming connection';
    throw new ConvoyError('untrusted_peer', message);
  }
  const number = Number(timeline);
  if (Number.isInteger(number) && number >= 1 && number <= 0xffff_ffff) return number;
  throw new ConvoyError(
    'untrusted_peer',
    `could not identify system: unexpected timeline "${timeline ?? ''}"`,
  );
}

/** START_REPLICATION was answered with an error. */
function refusal(error: unknown): ConvoyError {
  return described(error, 'could not send replication command "START_REPLICATION"');
}

function described(error: unknown, what: string): ConvoyError {
  const { code, message, hint, sqlState } = asConvoyError(error, 'connection_lost');
  if (code !== 'server_error' && code !== 'connection_lost') return asConvoyError(error, code);
  const text = `${what}: ${message}`;
  if (sqlState !== SEGMENT_GONE) return new ConvoyError(code, text, { hint, sqlState, cause: error });
  return new ConvoyError('wal_missing', text, {
    hint: 'let a replication slot hold the WAL (without --no-slot), or raise wal_keep_size on the server',
    sqlState,
    cause: error,
  });
}
