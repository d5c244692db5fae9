/* What node-postgres is told of a connection, all but its stream and its password. Part of connection.ts. */
import type pg from 'pg';
import type { ConnectionSettings } from './conninfo.js';
import type { OpenOptions } from './open-options.js';
import type { TlsAttempt } from './tls-mode.js';

const DEFAULT_CONNECT_TIMEOUT_MS = 60_000;

export function clientConfig(
  settings: ConnectionSettings,
  options: OpenOptions,
  attempt: TlsAttempt,
): pg.ClientConfig & { readonly replication: string } {
  const startupOptions = [
    settings.options ?? '',
    options.role === undefined ? '' : `-c role=${escapeStartupOption(options.role)}`,
    // node-postgres reads text as UTF-8; and without any options it would take PGOPTIONS
    '-c client_encoding=UTF8',
  ];
  return {
    host: settings.hostaddr ?? settings.host,
    port: settings.port,
    user: settings.user,
    database: settings.database ?? settings.user,
    ssl: attempt.kind === 'tls' ? { host: settings.host, ...attempt.ssl } : false,
    application_name: settings.applicationName ?? options.applicationName,
    options: startupOptions.filter((option) => option !== '').join(' '),
    sslnegotiation: attempt.kind === 'tls' ? settings.sslnegotiation : 'postgres',
    enableChannelBinding: settings.channelBinding !== 'disable',
    connectionTimeoutMillis: settings.connectTimeoutMs ?? DEFAULT_CONNECT_TIMEOUT_MS,
    replication: String(options.replication === true),
  };
}

/** pg_split_opts: blanks and backslashes are escaped by a backslash. */
function escapeStartupOption(value: string): string {
  return value.replaceAll(/[\\\s]/g, String.raw`\$&`);
}
