/*
 * Tries the servers of a connection string one after the other until one is reached that is of the kind asked for
 * (target_session_attrs). Called by connection.ts.
 * Source: PQconnectPoll of src/interfaces/libpq/fe-connect.c (PostgreSQL 18): which failures let the next host have its turn,
 * and how a server is asked what it is.
 */
import { assertNever } from '../assert-never.js';
import { asConvoyError, ConvoyError } from '../errors.js';
import type { ResultSet } from './command-run.js';
import { describeServer, isUnreachable } from './connect-failure.js';
import type { ConnectionSettings } from './conninfo.js';
import type { TargetSessionAttrs } from './conninfo-hosts.js';
import type { OpenOptions } from './open-options.js';

/** What is asked of a connection that has been opened. */
export interface Candidate {
  readonly parameters: ReadonlyMap<string, string>;
  run(text: string): Promise<ResultSet[]>;
  close(): Promise<void>;
}

/** SQLSTATE cannot_connect_now: starting up, shutting down, or in recovery without hot standby. */
const CANNOT_CONNECT_NOW = '57P03';

/**
 * @param open opens a connection to the one host of the settings that it is given
 * @throws ConvoyError `connection_failed` with what each host has said, a line each
 */
export async function openFittingHost<Connection extends Candidate>(
  settings: ConnectionSettings,
  options: OpenOptions,
  open: (one: ConnectionSettings, options: OpenOptions) => Promise<Connection>,
): Promise<Connection> {
  const { targetSessionAttrs: attrs = 'any' } = settings;
  const candidates = singleHosts(settings);
  const patient = { ...options, askPassword: once(options.askPassword) };
  const failures: ConvoyError[] = [];
  const rounds: readonly TargetSessionAttrs[] = attrs === 'prefer-standby' ? ['standby', 'any'] : [attrs];
  for (const wanted of rounds) {
    for (const one of candidates) {
      const outcome = await open(one, patient).catch((error: unknown) =>
        asConvoyError(error, 'connection_failed'),
      );
      if (outcome instanceof ConvoyError) {
        failures.push(outcome);
        if (!mayTryNextHost(outcome) || options.signal?.aborted === true) throw combine(failures);
        continue;
      }
      const mismatch = await findMismatch(outcome, wanted, options.replication === true).catch(
        (error: unknown) => asConvoyError(error, 'connection_failed').message,
      );
      if (mismatch === undefined) return outcome;
      await outcome.close();
      const message = `connection to ${describeServer(one)} failed: ${mismatch}`;
      failures.push(new ConvoyError('connection_failed', message));
    }
  }
  throw combine(failures);
}

/** Each host as settings of its own, in the order of trying. */
function singleHosts(settings: ConnectionSettings): ConnectionSettings[] {
  const { host, hostaddr, port, otherHosts = [], loadBalanceHosts, ...rest } = settings;
  const { targetSessionAttrs: _done, ...common } = rest;
  const first = hostaddr === undefined ? { host, port } : { host, hostaddr, port };
  const hosts = [first, ...otherHosts].map((one) => ({ ...common, ...one }));
  return loadBalanceHosts === true ? shuffled(hosts) : hosts;
}

function shuffled<Item>(items: readonly Item[]): Item[] {
  return items
    .map((item) => ({ item, place: Math.random() }))
    .toSorted((a, b) => a.place - b.place)
    .map(({ item }) => item);
}

/** The same password for all hosts. */
function once(ask: OpenOptions['askPassword']): OpenOptions['askPassword'] {
  let answer: Promise<string> | undefined;
  return ask === undefined ? undefined : () => (answer ??= ask());
}

/** A server that has let nobody in is passed over; one that refuses this client has spoken for all. */
function mayTryNextHost({ code, sqlState, cause }: ConvoyError): boolean {
  if (code !== 'connection_failed') return false;
  return sqlState === undefined ? isUnreachable(cause) : sqlState === CANNOT_CONNECT_NOW;
}

/** As libpq shows them: what each host has said, a line each. */
function combine(failures: readonly ConvoyError[]): ConvoyError {
  const last = failures.at(-1);
  if (last === undefined || failures.length === 1)
    return last ?? new ConvoyError('connection_failed', 'no host');
  const messages = new Set(failures.map(({ message }) => message));
  const { code, hint, sqlState } = last;
  return new ConvoyError(code, [...messages].join('\n'), { hint, sqlState, cause: last });
}

/** @returns what the server is that it should not be, in libpq's words */
async function findMismatch(
  connection: Candidate,
  wanted: TargetSessionAttrs,
  isReplication: boolean,
): Promise<string | undefined> {
  switch (wanted) {
    case 'any':
      return undefined;
    case 'read-write':
      return (await isReadOnly(connection)) ? 'session is read-only' : undefined;
    case 'read-only':
      return (await isReadOnly(connection)) ? undefined : 'session is not read-only';
    case 'primary':
      return (await isStandby(connection, isReplication)) ? 'server is in hot standby mode' : undefined;
    case 'standby':
    case 'prefer-standby':
      return (await isStandby(connection, isReplication)) ? undefined : 'server is not in hot standby mode';
    default:
      return assertNever(wanted);
  }
}

/** From 14 on a server says by itself what is asked here. */
async function isReadOnly(connection: Candidate): Promise<boolean> {
  const standby = connection.parameters.get('in_hot_standby');
  const byDefault = connection.parameters.get('default_transaction_read_only');
  if (standby === undefined || byDefault === undefined) return isOn(connection, 'transaction_read_only');
  return standby === 'on' || byDefault === 'on';
}

/** A walsender for physical replication runs no SQL, but in 13, too, it shows settings. */
async function isStandby(connection: Candidate, isReplication: boolean): Promise<boolean> {
  const standby = connection.parameters.get('in_hot_standby');
  if (standby !== undefined) return standby === 'on';
  if (!isReplication) {
    const [answer] = await connection.run('SELECT pg_catalog.pg_is_in_recovery()');
    return answer?.rows[0]?.[0] === 't';
  }
  if (!(await isOn(connection, 'transaction_read_only'))) return false;
  if (!(await isOn(connection, 'default_transaction_read_only'))) return true;
  throw new ConvoyError(
    'connection_failed',
    'cannot tell whether the server is in hot standby mode: default_transaction_read_only is on',
  );
}

async function isOn(connection: Candidate, setting: string): Promise<boolean> {
  const [answer] = await connection.run(`SHOW ${setting}`);
  return answer?.rows[0]?.[0] === 'on';
}
