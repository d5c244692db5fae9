/* SQL on an embedded server, as its superuser: for the demo and the bench. */
import { ServerConnection } from '../wire/connection.js';
import { resolveConnection } from '../wire/conninfo.js';
import type { EmbeddedServer } from './embedded-server.js';

/** A connection to the database `postgres`; dropped when the signal aborts, so that whatever runs on it rejects. */
export async function openSql(server: EmbeddedServer, signal?: AbortSignal): Promise<ServerConnection> {
  const { conninfo, user } = server;
  const dbname = `${conninfo}?sslmode=disable`;
  const settings = resolveConnection({ dbname, environment: {}, homeDirectory: '', osUser: user });
  const connection = await ServerConnection.open(settings, { applicationName: 'pgconvoy' });
  signal?.addEventListener('abort', () => connection.destroy(), { once: true });
  return connection;
}
