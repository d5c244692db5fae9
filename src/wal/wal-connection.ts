/*
 * The connection that WAL is streamed over: a walsender of the server that the backup comes from. What keeps it from
 * being opened is said with what mends it. Used by wal-receiver.ts, and by `check`.
 */
import { ConvoyError } from '../errors.js';
import { ServerConnection } from '../wire/connection.js';
import type { ConnectionSettings } from '../wire/conninfo.js';
import type { OpenOptions } from '../wire/open-options.js';

export type WalConnectionOptions = Pick<OpenOptions, 'askPassword' | 'signal' | 'onNotice'>;

const APPLICATION_NAME = 'pgconvoy wal';
const OTHERWISE = 'or take the WAL at the end with -X fetch';

/** @throws ConvoyError `connection_failed` */
export async function openWalConnection(
  settings: ConnectionSettings,
  options: WalConnectionOptions,
): Promise<ServerConnection> {
  try {
    return await ServerConnection.open(settings, {
      ...options,
      applicationName: APPLICATION_NAME,
      replication: true,
    });
  } catch (error) {
    if (!(error instanceof ConvoyError) || error.code !== 'connection_failed') throw error;
    const hint = remedy(error.sqlState ?? '', settings.user) ?? error.hint;
    throw new ConvoyError(error.code, error.message, { hint, sqlState: error.sqlState, cause: error });
  }
}

/** For the SQLSTATEs with which a server that lets others in refuses a walsender. */
function remedy(sqlState: string, user: string): string | undefined {
  switch (sqlState) {
    case '42501':
      return `ALTER ROLE ${quoteRole(user)} REPLICATION; ${OTHERWISE}`;
    case '28000':
      return `let pg_hba.conf allow replication connections (database "replication") from here, ${OTHERWISE}`;
    case '53300':
      return `raise max_wal_senders, or max_connections, on the server, ${OTHERWISE}`;
    default:
      return undefined;
  }
}

function quoteRole(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}
