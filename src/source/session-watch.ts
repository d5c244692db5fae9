/*
 * Watches the coordinator's session of the sql source while files are copied and the session itself is idle: a session
 * that has silently gone, or WAL that the backup needs and the server has recycled, is noticed within seconds and not
 * at the end.
 */
import { ConvoyError } from '../errors.js';
import type { ServerConnection } from '../wire/connection.js';

/** Asked this often, and answered within this: a loss is noticed within 9 s. */
const INTERVAL_MS = 4000;
const ANSWER_TIMEOUT_MS = 5000;

export class SessionWatch {
  /** Resolves when the backup is lost. */
  readonly failed: Promise<ConvoyError>;
  readonly #connection: ServerConnection;
  #segment: string | undefined;
  #timer: NodeJS.Timeout | undefined;
  #asking: Promise<void> = Promise.resolve();
  #fail: (reason: ConvoyError) => void = () => {};

  constructor(connection: ServerConnection) {
    this.#connection = connection;
    this.failed = new Promise((resolve) => (this.#fail = resolve));
  }

  /** Nothing holds WAL for the backup: watch that its first segment stays. */
  needSegment(name: string): void {
    this.#segment = name;
  }

  begin(): void {
    this.#timer = setInterval(() => {
      this.#asking = this.#ask();
    }, INTERVAL_MS);
  }

  /** No more questions; waits for the answer to the last one. */
  async end(): Promise<void> {
    this.stop();
    await this.#asking;
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  async #ask(): Promise<void> {
    const silent = setTimeout(() => {
      const message = `lost connection to ${this.#connection.server}: no answer for ${ANSWER_TIMEOUT_MS / 1000} s`;
      this.#fail(new ConvoyError('connection_lost', message));
    }, ANSWER_TIMEOUT_MS);
    try {
      const path = this.#segment === undefined ? null : `pg_wal/${this.#segment}`;
      const [row] = await this.#connection.query(
        'SELECT $1::text IS NULL OR (pg_catalog.pg_stat_file($1, true)).size IS NOT NULL',
        [path],
      );
      if (row?.[0] === 'f') this.#fail(walGone(this.#segment ?? ''));
    } catch (error) {
      if (error instanceof ConvoyError) this.#fail(error);
    } finally {
      clearTimeout(silent);
    }
  }
}

export function walGone(segment: string): ConvoyError {
  return new ConvoyError('wal_missing', `requested WAL segment ${segment} has already been removed`, {
    hint: 'raise wal_keep_size on the server, or let a slot hold the WAL: ALTER ROLE ... REPLICATION; or use -X none with an archive',
  });
}
