/*
 * The connection options that libpq of PostgreSQL 18 knows (PQconninfoOptions in
 * src/interfaces/libpq/fe-connect.c), with their environment variables and what pgconvoy does with each. Asked
 * by the connection-string parser (is this a keyword, is its value a secret) and by conninfo-values.ts (what
 * comes from the environment, what has to be refused).
 */

/** What pgconvoy does with an option that has been given a value. */
export type OptionUse =
  | { readonly kind: 'used' }
  /** Harmless to ignore, for this reason. */
  | { readonly kind: 'ignored'; readonly because: string }
  /** Refused, except with one of these values, which ask for what happens anyway. */
  | { readonly kind: 'refused'; readonly except: readonly string[] };

export interface ConnectionOption {
  readonly environmentVariable?: string;
  /** The value never appears in a message. */
  readonly secret?: true;
  readonly use: OptionUse;
}

/** DEFAULT_PGSOCKET_DIR of Debian's and the RPMs' PostgreSQL, and PostgreSQL's own. */
export const DEFAULT_SOCKET_DIRECTORIES: readonly string[] = ['/var/run/postgresql', '/tmp'];

const USED: OptionUse = { kind: 'used' };

function ignored(because: string): OptionUse {
  return { kind: 'ignored', because };
}

function refused(...except: string[]): OptionUse {
  return { kind: 'refused', except };
}

const ONLY_FOR_GSSAPI = ignored('GSSAPI is never used: a server that insists on it refuses the login itself');
const ONLY_A_DEAD_PEER = ignored(
  'Node.js cannot set it; it only changes how soon a dead peer is noticed, and every wait has its own limit',
);

/** By keyword, in libpq's order. */
export const CONNECTION_OPTIONS: ReadonlyMap<string, ConnectionOption> = new Map<string, ConnectionOption>([
  ['service', { environmentVariable: 'PGSERVICE', use: USED }],
  ['user', { environmentVariable: 'PGUSER', use: USED }],
  ['password', { environmentVariable: 'PGPASSWORD', secret: true, use: USED }],
  ['passfile', { environmentVariable: 'PGPASSFILE', use: USED }],
  ['channel_binding', { environmentVariable: 'PGCHANNELBINDING', use: USED }],
  ['connect_timeout', { environmentVariable: 'PGCONNECT_TIMEOUT', use: USED }],
  ['dbname', { environmentVariable: 'PGDATABASE', use: USED }],
  ['host', { environmentVariable: 'PGHOST', use: USED }],
  ['hostaddr', { environmentVariable: 'PGHOSTADDR', use: USED }],
  ['port', { environmentVariable: 'PGPORT', use: USED }],
  [
    'client_encoding',
    {
      environmentVariable: 'PGCLIENTENCODING',
      use: ignored('pgconvoy asks for the encoding that it decodes'),
    },
  ],
  ['options', { environmentVariable: 'PGOPTIONS', use: USED }],
  ['application_name', { environmentVariable: 'PGAPPNAME', use: USED }],
  ['fallback_application_name', { use: USED }],
  ['keepalives', { use: USED }],
  ['keepalives_idle', { use: USED }],
  ['keepalives_interval', { use: ONLY_A_DEAD_PEER }],
  ['keepalives_count', { use: ONLY_A_DEAD_PEER }],
  ['tcp_user_timeout', { use: ONLY_A_DEAD_PEER }],
  ['sslmode', { environmentVariable: 'PGSSLMODE', use: USED }],
  ['sslnegotiation', { environmentVariable: 'PGSSLNEGOTIATION', use: USED }],
  [
    'sslcompression',
    { environmentVariable: 'PGSSLCOMPRESSION', use: ignored('neither side offers TLS compression any more') },
  ],
  ['sslcert', { environmentVariable: 'PGSSLCERT', use: USED }],
  ['sslkey', { environmentVariable: 'PGSSLKEY', use: USED }],
  ['sslcertmode', { environmentVariable: 'PGSSLCERTMODE', use: USED }],
  ['sslpassword', { secret: true, use: USED }],
  ['sslrootcert', { environmentVariable: 'PGSSLROOTCERT', use: USED }],
  ['sslcrl', { environmentVariable: 'PGSSLCRL', use: USED }],
  ['sslcrldir', { environmentVariable: 'PGSSLCRLDIR', use: refused() }],
  ['sslsni', { environmentVariable: 'PGSSLSNI', use: refused('1') }],
  ['requirepeer', { environmentVariable: 'PGREQUIREPEER', use: refused() }],
  ['require_auth', { environmentVariable: 'PGREQUIREAUTH', use: refused() }],
  ['min_protocol_version', { environmentVariable: 'PGMINPROTOCOLVERSION', use: refused('3.0') }],
  [
    'max_protocol_version',
    { environmentVariable: 'PGMAXPROTOCOLVERSION', use: ignored('pgconvoy speaks 3.0, below every maximum') },
  ],
  ['ssl_min_protocol_version', { environmentVariable: 'PGSSLMINPROTOCOLVERSION', use: USED }],
  ['ssl_max_protocol_version', { environmentVariable: 'PGSSLMAXPROTOCOLVERSION', use: USED }],
  ['gssencmode', { environmentVariable: 'PGGSSENCMODE', use: refused('disable', 'prefer') }],
  ['krbsrvname', { environmentVariable: 'PGKRBSRVNAME', use: ONLY_FOR_GSSAPI }],
  ['gsslib', { environmentVariable: 'PGGSSLIB', use: ONLY_FOR_GSSAPI }],
  ['gssdelegation', { environmentVariable: 'PGGSSDELEGATION', use: ONLY_FOR_GSSAPI }],
  [
    'replication',
    { use: ignored('each source opens the kind of connection that it needs, as pg_basebackup') },
  ],
  ['target_session_attrs', { environmentVariable: 'PGTARGETSESSIONATTRS', use: USED }],
  ['load_balance_hosts', { environmentVariable: 'PGLOADBALANCEHOSTS', use: USED }],
  ['scram_client_key', { secret: true, use: refused() }],
  ['scram_server_key', { secret: true, use: refused() }],
  ['oauth_issuer', { use: refused() }],
  ['oauth_client_id', { use: refused() }],
  ['oauth_client_secret', { secret: true, use: refused() }],
  ['oauth_scope', { use: refused() }],
  ['sslkeylogfile', { use: refused() }],
]);

/** True where the value of this keyword must not appear in a message. */
export function isSecretOption(keyword: string): boolean {
  return CONNECTION_OPTIONS.get(keyword)?.secret === true;
}
