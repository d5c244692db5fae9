/*
 * The ways from a session process to the server behind it: one SQL connection that all sessions share for short
 * questions (roles, signals to backends), and new connections for backups and for the relay.
 */
import type { ConvoyError } from '../errors.js';
import { majorVersionOf } from '../server-version.js';
import type { ConnectionSettings } from '../wire/conninfo.js';
import { ServerConnection } from '../wire/connection.js';

const APPLICATION_NAME = 'pgconvoy serve';

/** Every question is about one row; a server that takes longer is as good as gone. */
const ANSWER_LIMIT_MS = 15_000;

export interface ServedIdentity {
  readonly systemIdentifier: string;
  /** UTC, with microseconds. */
  readonly postmasterStart: string;
}

export class ServerAccess {
  readonly #settings: ConnectionSettings;
  #shared: Promise<ServerConnection> | undefined;
  #lastQuestion: Promise<unknown> = Promise.resolve();
  /** A server that was down has other connections. */
  readonly #dataChecksums = new WeakMap<ServerConnection, boolean>();
  readonly #identities = new WeakMap<ServerConnection, ServedIdentity>();

  constructor(settings: ConnectionSettings) {
    this.#settings = settings;
  }

  /**
   * The shared SQL connection; opened on first use and again after it was lost.
   *
   * @throws ConvoyError `connection_failed`
   */
  async shared(): Promise<ServerConnection> {
    this.#shared ??= this.#openShared();
    return this.#shared;
  }

  /** A new SQL connection that no time limit of the server's settings ends; the caller closes it. */
  async openSql(): Promise<ServerConnection> {
    const options = `${this.#settings.options ?? ''} ${STARTUP_OPTIONS}`;
    const connection = await ServerConnection.open(
      { ...this.#settings, options },
      { applicationName: APPLICATION_NAME },
    );
    try {
      await connection.query(WITHOUT_LIMITS);
      return connection;
    } catch (error) {
      connection.destroy();
      throw error;
    }
  }

  /**
   * A new walsender that acts with the rights of `role`; the caller closes it. While a backup runs it may well be idle
   * for hours, which must not end it.
   */
  async openWalsender(role: string, applicationName: string): Promise<ServerConnection> {
    const shared = await this.shared();
    const hasIdleTimeout = majorVersionOf(shared.parameters.get('server_version') ?? '') >= 14;
    const options = [this.#settings.options ?? '', hasIdleTimeout ? '-c idle_session_timeout=0' : ''];
    const settings = { ...this.#settings, applicationName, options: options.join(' ').trim() };
    return ServerConnection.open(settings, { replication: true, role, applicationName, detachable: true });
  }

  /**
   * Asks on the shared connection; the questions of several sessions wait for each other.
   *
   * @throws ConvoyError the server's error, or `connection_lost` where it does not answer in time
   */
  query(text: string, values: readonly unknown[] = []): Promise<(string | null)[][]> {
    const answer = this.#lastQuestion.then(() => this.#ask(text, values));
    this.#lastQuestion = answer.catch(() => {});
    return answer;
  }

  /** Asks the server to cancel what a backend of ours runs. */
  async cancelBackend(processId: number): Promise<void> {
    await this.query('SELECT pg_cancel_backend($1)', [processId]);
  }

  /** Ends a backend of ours, whatever it waits for. */
  async terminateBackend(processId: number): Promise<void> {
    await this.query('SELECT pg_terminate_backend($1)', [processId]);
  }

  /** Whether the cluster has page checksums now; that can only change while the server is down. */
  async dataChecksums(): Promise<boolean> {
    const connection = await this.shared();
    let known = this.#dataChecksums.get(connection);
    if (known === undefined) {
      const [row] = await this.query('SHOW data_checksums');
      known = row?.[0] === 'on';
      this.#dataChecksums.set(connection, known);
    }
    return known;
  }

  /** Which server this is, and which run of it. */
  async identity(): Promise<ServedIdentity> {
    const connection = await this.shared();
    let known = this.#identities.get(connection);
    if (known === undefined) {
      const [row] = await this.query(IDENTITY);
      known = { systemIdentifier: row?.[0] ?? '', postmasterStart: row?.[1] ?? '' };
      this.#identities.set(connection, known);
    }
    return known;
  }

  async close(): Promise<void> {
    const shared = this.#shared;
    this.#shared = undefined;
    await shared?.then(
      (connection) => connection.close(),
      () => {},
    );
  }

  async #ask(text: string, values: readonly unknown[]): Promise<(string | null)[][]> {
    const connection = await this.shared();
    const timer = setTimeout(() => {
      this.#shared = undefined;
      connection.destroy();
    }, ANSWER_LIMIT_MS);
    try {
      return await connection.query(text, values);
    } finally {
      clearTimeout(timer);
    }
  }

  #openShared(): Promise<ServerConnection> {
    const opening = this.openSql();
    const forget = (): void => {
      if (this.#shared === opening) this.#shared = undefined;
    };
    opening.then((connection) => connection.lost.then(forget), forget);
    return opening;
  }
}

const IDENTITY = `
  SELECT system_identifier::text, to_char(pg_postmaster_start_time() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US "UTC"')
  FROM pg_control_system()`;

/** The first statement already may be ended by a setting of the role. */
const STARTUP_OPTIONS = '-c statement_timeout=0 -c lock_timeout=0';

/** Settings that do not exist in this release are passed over. */
const WITHOUT_LIMITS = `
  SELECT set_config(name, CASE name WHEN 'client_connection_check_interval' THEN '2s' WHEN 'search_path' THEN '' ELSE '0' END, false)
  FROM pg_settings
  WHERE name IN ('statement_timeout', 'lock_timeout', 'idle_session_timeout', 'transaction_timeout',
    'idle_in_transaction_session_timeout', 'client_connection_check_interval', 'search_path')`;

/** The reason of a failure in the server's own words, without severity. */
export function bareMessage(error: ConvoyError): string {
  return error.message.replace(/^[A-Z]+: {2}/, '');
}
