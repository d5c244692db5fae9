/*
 * The sql source's second session, beside the one that has started the backup: it holds the slot, and looks every few seconds
 * whether going on makes sense, also while the first waits for the checkpoint, the list or the archive. It
 * survives its own end; the backup ends with the first. Owned by sql-source.ts.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { asConvoyError, ConvoyError } from '../errors.js';
import { SessionWatch } from '../session-watch.js';
import type { ServerConnection } from '../wire/connection.js';
import type { OpenOptions } from '../wire/open-options.js';
import { assertSameServer, identifyOverSql, type ServerIdentity } from './server-identity.js';
import { openSqlSession } from './sql-session.js';
import { holdWal, WATCH } from './sql-statements.js';
import { walGone } from './wal-gone.js';

/** With the time between two questions: a loss is noticed within 10 s. */
const ANSWER_LIMIT_MS = 7500;
/** How long the server may take to hear that a backup is given up, on this session, and on a new one. */
const ABANDON_LIMIT_MS = 500;
const REOPEN_LIMIT_MS = 1000;

/** SQLSTATEs that say that no slot can be had: no right to, none left, or WAL is not kept for replication. */
const NO_SLOT_STATES: ReadonlySet<string> = new Set(['42501', '53400', '55000']);

/** The session that has started the backup, as the watch sees it from this side. */
export type WatchedSession = Pick<
  ServerConnection,
  'server' | 'processId' | 'reached' | 'query' | 'lastReceivedMs'
>;

interface Sight {
  readonly hasWal: boolean;
  readonly isInRecovery: boolean;
  /** The highest timeline of all files in pg_wal, eight hexadecimal digits. */
  readonly highestTimeline: string;
  /** What its process does: "gone", nothing that we would hear of ("idle"), or anything else. */
  readonly process: 'gone' | 'idle' | 'busy';
  /** When bytes came from it last. */
  readonly lastReceivedMs: number | undefined;
}

export class SqlWatch {
  /** Resolves when the backup is lost. */
  readonly failed: Promise<ConvoyError>;
  /** The first WAL segment that the backup needs; undefined: none, or not known yet. */
  neededSegment: string | undefined;
  /** True while the watched session waits for an answer; false: it may be asked for a sign of life. */
  isAwaited = false;
  /** The server has ended the backup: only the WAL matters now. */
  isStopped = false;
  readonly #watched: WatchedSession;
  readonly #open: (signal: AbortSignal | undefined) => Promise<ServerConnection>;
  readonly #signal: AbortSignal | undefined;
  readonly #rhythm: SessionWatch;
  #session: ServerConnection;
  #slot: string | undefined;
  #hasLostSlot = false;
  #isAbandoned = false;
  #first: Sight | undefined;
  #last: Sight | undefined;

  /** @throws ConvoyError `connection_failed`; `other_server` where the address leads to another one now */
  static async open(
    watched: WatchedSession,
    identity: ServerIdentity,
    { applicationName, signal }: Pick<OpenOptions, 'applicationName' | 'signal'>,
  ): Promise<SqlWatch> {
    const open = async (until: AbortSignal | undefined): Promise<ServerConnection> => {
      const session = await openSqlSession(watched.reached, {
        applicationName: `${applicationName} watch`,
        signal: until,
      });
      try {
        assertSameServer(identity, await identifyOverSql(session), session.server);
        return session;
      } catch (error) {
        session.destroy();
        throw error;
      }
    };
    return new SqlWatch(watched, open, signal, await open(signal));
  }

  private constructor(
    watched: WatchedSession,
    open: (signal: AbortSignal | undefined) => Promise<ServerConnection>,
    signal: AbortSignal | undefined,
    session: ServerConnection,
  ) {
    this.#watched = watched;
    this.#open = open;
    this.#signal = signal;
    this.#session = session;
    this.#rhythm = new SessionWatch({
      server: watched.server,
      answerLimitMs: ANSWER_LIMIT_MS,
      ask: () => this.#ask(),
    });
    this.failed = this.#rhythm.failed;
  }

  /** A slot that goes with this session keeps the server from recycling WAL, where one can be had. */
  async holdWal(): Promise<void> {
    const slot = `pgconvoy_${this.#session.processId}`;
    try {
      const rows = await this.#session.query(holdWal(slot));
      if (rows.length > 0) this.#slot = slot;
    } catch (error) {
      if (!NO_SLOT_STATES.has(asConvoyError(error, 'server_error').sqlState ?? '')) throw error;
    }
  }

  begin(): void {
    this.#rhythm.begin();
  }

  async end(): Promise<void> {
    await this.#rhythm.end();
    await this.#session.close();
  }

  /**
   * Ends the session that has started the backup, whatever it waits for and even where nothing passes between it and us any
   * more, and then this one; in the background.
   */
  abandon(): void {
    if (this.#isAbandoned) return;
    this.#isAbandoned = true;
    this.#rhythm.stop();
    void this.#abandon();
  }

  async #abandon(): Promise<void> {
    const old = this.#session;
    const processIds = [this.#watched.processId, old.processId];
    const hasHeard = await terminate(old, processIds);
    old.destroy();
    if (hasHeard) return;
    const fresh = await this.#open(AbortSignal.timeout(REOPEN_LIMIT_MS)).catch(() => undefined);
    if (fresh === undefined) return;
    await terminate(fresh, processIds);
    fresh.destroy();
  }

  async #ask(): Promise<ConvoyError | undefined> {
    const { isAwaited } = this;
    const sight = await this.#look();
    if (!isAwaited && !this.isAwaited) await this.#watched.query('SELECT 1');
    const before = this.#last;
    this.#first ??= sight;
    this.#last = sight;
    if (!sight.hasWal)
      return walGone(this.neededSegment ?? '', this.#hasLostSlot ? 'slot invalidated' : 'slot possible');
    const reason = this.isStopped ? undefined : whyServerFails(this.#first, sight);
    return reason ?? (isAwaited ? this.#whySessionFails(before, sight) : undefined);
  }

  /** A process that has nothing more to say, seen twice, while we wait for what it has said: it will not arrive. */
  #whySessionFails(before: Sight | undefined, sight: Sight): ConvoyError | undefined {
    const isStuck = ({ process, lastReceivedMs }: Sight): boolean =>
      process !== 'busy' && lastReceivedMs !== undefined;
    const hasMoved = before?.lastReceivedMs !== sight.lastReceivedMs;
    if (before === undefined || hasMoved || !isStuck(before) || !isStuck(sight)) return undefined;
    const what = sight.process === 'gone' ? 'its server process has ended' : 'the answer does not arrive';
    return new ConvoyError('connection_lost', `lost connection to ${this.#watched.server}: ${what}`);
  }

  /** Opens the session anew where it has ended by itself: so does a session whose slot is invalidated. */
  async #look(): Promise<Sight> {
    try {
      return await this.#lookOnce();
    } catch (error) {
      const loss = asConvoyError(error, 'connection_lost');
      if (loss.code !== 'connection_lost' || this.#isAbandoned) throw loss;
      this.#session.destroy();
      this.#session = await this.#open(this.#signal).catch(() => {
        throw loss;
      });
      if (this.#slot !== undefined) {
        this.#hasLostSlot = true;
        await this.holdWal();
      }
      return await this.#lookOnce();
    }
  }

  async #lookOnce(): Promise<Sight> {
    const segment = this.neededSegment;
    const [row] = await this.#session.query(WATCH, [
      segment === undefined ? null : `pg_wal/${segment}`,
      this.#watched.processId,
    ]);
    const [hasWal, isInRecovery, highestTimeline, state] = row ?? [];
    return {
      hasWal: hasWal === 't',
      isInRecovery: isInRecovery === 't',
      highestTimeline: highestTimeline ?? '',
      process: state === null ? 'gone' : state === 'idle' ? 'idle' : 'busy',
      lastReceivedMs: this.#watched.lastReceivedMs,
    };
  }
}

/** @returns true where the server has heard of it in time; the last of the processes may be the session's own */
async function terminate(session: ServerConnection, processIds: readonly number[]): Promise<boolean> {
  const ended = session
    .query('SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.unnest($1::int[]) AS pid', [
      `{${processIds.join()}}`,
    ])
    // its own end is the last thing that it hears of
    .then(
      () => true,
      (error: unknown) => asConvoyError(error, 'connection_lost').sqlState !== undefined,
    );
  return await Promise.race([ended, delay(ABANDON_LIMIT_MS, false)]);
}

function whyServerFails(first: Sight, now: Sight): ConvoyError | undefined {
  if (now.isInRecovery !== first.isInRecovery) {
    return new ConvoyError('server_error', 'the standby was promoted during online backup', {
      hint: 'try again: the copy cannot be used',
    });
  }
  if (now.highestTimeline === first.highestTimeline) return undefined;
  return new ConvoyError('server_error', 'the server switched to another timeline during the backup', {
    hint: 'try again: the standby follows another primary now',
  });
}
