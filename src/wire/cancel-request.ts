/*
 * Asks a server to stop what one of its sessions runs, over a connection that does nothing else: a server that waits (for
 * a checkpoint, for the archiver) does not notice that its client is gone. Called by connection.ts.
 * Source: PQcancel in PostgreSQL's fe-cancel.c; as PQcancelCreate since 17, encrypted where the session is.
 */
import net from 'node:net';
import type { ConnectionSettings } from './conninfo.js';
import { isUnixSocket } from './conninfo.js';
import { pg } from './pg.js';
import type { CancelConnection, PgClient } from './pg-client.js';
import type { TlsAttempt } from './tls-mode.js';

/** The server closes the connection when it has sent the signal; nobody waits longer for that. */
export const CANCEL_REQUEST_LIMIT_MS = 500;

/** Where the session's server was reached, and how. */
export interface CancelAddress {
  readonly settings: ConnectionSettings;
  readonly attempt: TlsAttempt;
}

/** Resolves when the server has taken the request, or cannot be reached; never rejects. */
export async function requestCancel(
  { settings, attempt }: CancelAddress,
  { processID, secretKey }: Pick<PgClient, 'processID' | 'secretKey'>,
): Promise<void> {
  const stream = new net.Socket();
  const config = {
    stream: () => stream,
    ssl: attempt.kind === 'tls' ? { host: settings.host, ...attempt.ssl } : false,
    sslNegotiation: attempt.kind === 'tls' ? settings.sslnegotiation : 'postgres',
  };
  const connection = new pg.Connection(config) as unknown as CancelConnection;
  await new Promise<void>((resolve) => {
    const timer = setTimeout(resolve, CANCEL_REQUEST_LIMIT_MS);
    const finish = (): void => {
      clearTimeout(timer);
      resolve();
    };
    connection.on('error', finish);
    connection.on('end', finish);
    connection.once('connect', () => {
      if (attempt.kind !== 'tls') connection.cancel(processID, secretKey);
      else if (settings.sslnegotiation !== 'direct') connection.requestSsl();
    });
    connection.once('sslconnect', () => connection.cancel(processID, secretKey));
    if (isUnixSocket(settings)) connection.connect(`${settings.host}/.s.PGSQL.${settings.port}`);
    else connection.connect(settings.port, settings.hostaddr ?? settings.host);
  });
  stream.destroy();
}
