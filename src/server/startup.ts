/*
 * What a client asks for in its startup packet, and whether `serve` can give it. Called by login.ts.
 * Rules: ProcessStartupPacket in PostgreSQL's src/backend/tcop/backend_startup.c.
 */
import { ConvoyError } from '../errors.js';
import type { FirstPacket } from './negotiation.js';

export interface Startup {
  readonly user: string;
  readonly applicationName: string;
  /** The client has to be told that only protocol 3.0 without options is spoken here. */
  readonly needsNegotiation: boolean;
  /** Protocol options that the client asked for; none is known. */
  readonly unknownOptions: readonly string[];
}

const TRUE_WORDS: ReadonlySet<string> = new Set(['true', 't', 'yes', 'y', 'on', '1']);
const FALSE_WORDS: ReadonlySet<string> = new Set(['false', 'f', 'no', 'n', 'off', '0']);

/** NAMEDATALEN - 1: PostgreSQL cuts longer names in logs and views, too. */
const MAX_NAME_CHARACTERS = 63;

/** @throws ConvoyError with the SQLSTATE that refuses the client */
export function readStartup({ minor, parameters }: Extract<FirstPacket, { kind: 'startup' }>): Startup {
  assertReplication(parameters.get('replication'));
  const user = parameters.get('user');
  if (user === undefined || user === '') {
    const message = 'no PostgreSQL user name specified in startup packet';
    throw new ConvoyError('untrusted_peer', message, { sqlState: '28000' });
  }
  const unknownOptions = [...parameters.keys()].filter((name) => name.startsWith('_pq_.'));
  return {
    user,
    applicationName: (parameters.get('application_name') ?? '').slice(0, MAX_NAME_CHARACTERS),
    needsNegotiation: minor > 0 || unknownOptions.length > 0,
    unknownOptions,
  };
}

function assertReplication(value: string | undefined): void {
  const word = (value ?? 'false').toLowerCase();
  // a client that asks for SQL on its replication connection gets everything else
  if (TRUE_WORDS.has(word) || word === 'database') return;
  if (FALSE_WORDS.has(word)) {
    throw new ConvoyError('serve_refused', 'pgconvoy serve takes replication connections only', {
      hint: 'connect to PostgreSQL itself for SQL, or set replication=true',
      sqlState: '0A000',
    });
  }
  throw new ConvoyError('untrusted_peer', `invalid value for parameter "replication": "${value}"`, {
    hint: 'Valid values are: "false", 0, "true", 1, "database".',
    sqlState: '22023',
  });
}
