/*
 * Which server a connection has led to: a load balancer, a name with several addresses or a restart may give a worker another
 * one than the coordinator has. Both kinds of source ask on every connection and hold the answers against each other.
 */
import { ConvoyError } from '../errors.js';
import {
  POSTMASTER_START_PARAMETER,
  SYSTEM_IDENTIFIER_PARAMETER,
} from '../replication/session-parameters.js';
import type { ServerConnection } from '../wire/connection.js';

/** Plain data. */
export interface ServerIdentity {
  readonly systemIdentifier: string;
  /** Tells apart the primary and its standbys, and one run of a server and the next; undefined where nobody says it. */
  readonly startedAt: string | undefined;
  /** Where the time of the start is not to be had. */
  readonly timeline: string | undefined;
}

const IDENTITY = `SELECT system_identifier,
  pg_catalog.to_char(pg_catalog.pg_postmaster_start_time() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US "UTC"')
  FROM pg_catalog.pg_control_system()`;

/** Of a stock server. */
export async function identifyOverSql(connection: Pick<ServerConnection, 'query'>): Promise<ServerIdentity> {
  const [row] = await connection.query(IDENTITY);
  return { systemIdentifier: row?.[0] ?? '', startedAt: row?.[1] ?? undefined, timeline: undefined };
}

/** Of a walsender: `pgconvoy serve` says it to everybody who logs in, a patched server has to be asked. */
export async function identifyWalsender(
  connection: Pick<ServerConnection, 'parameters' | 'run'>,
): Promise<ServerIdentity> {
  const systemIdentifier = connection.parameters.get(SYSTEM_IDENTIFIER_PARAMETER);
  const startedAt = connection.parameters.get(POSTMASTER_START_PARAMETER);
  if (systemIdentifier !== undefined) return { systemIdentifier, startedAt, timeline: undefined };
  const [system] = await connection.run('IDENTIFY_SYSTEM');
  const [identifier, timeline] = system?.rows[0] ?? [];
  return { systemIdentifier: identifier ?? '', startedAt: undefined, timeline: timeline ?? undefined };
}

/**
 * @param server as messages name it
 * @throws ConvoyError `other_server` that names both
 */
export function assertSameServer(expected: ServerIdentity, found: ServerIdentity, server: string): void {
  const isSame =
    expected.systemIdentifier === found.systemIdentifier &&
    expected.startedAt === found.startedAt &&
    expected.timeline === found.timeline;
  if (isSame) return;
  const message = `${server} is not the one that the backup was started on: ${describe(found)} instead of ${describe(expected)}`;
  throw new ConvoyError('other_server', message, {
    hint: 'the server was restarted, or the address leads to several servers: connect to one of them, with hostaddr',
  });
}

function describe({ systemIdentifier, startedAt, timeline }: ServerIdentity): string {
  const since = startedAt === undefined ? '' : `, started ${startedAt}`;
  const line = timeline === undefined ? '' : `, timeline ${timeline}`;
  return `system identifier ${systemIdentifier}${since}${line}`;
}
