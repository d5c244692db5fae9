/*
 * The connection string with which a standby reaches the server that its backup came from: what was given to connect
 * with, for `backup -R`. After GenerateRecoveryConfig of src/fe_utils/recovery_gen.c and PQconninfo of fe-connect.c;
 * but options that only repeat libpq's defaults are left out, and so are those that a standby of the server's version
 * would refuse as unknown.
 */
import { join } from 'node:path';
import { CONNECTION_OPTIONS } from './conninfo-options.js';
import { parseConnectionString } from './conninfo-string.js';
import { OptionValues } from './conninfo-values.js';
import { resolveConnection, type ConnectionRequest } from './conninfo.js';

export interface StandbyOf {
  readonly serverMajor: number;
  /** The password that was asked for, if it was. */
  readonly askedPassword: string | undefined;
}

/** Never written: the walreceiver sets it itself, or the values that it leads to stand there already. */
const NEVER_WRITTEN: ReadonlySet<string> = new Set([
  'replication',
  'fallback_application_name',
  'dbname',
  'service',
]);

/** The first major version whose libpq knows an option; those before 13 are not here. */
const KNOWN_SINCE: Readonly<Record<string, number>> = {
  sslcrldir: 14,
  sslsni: 14,
  load_balance_hosts: 16,
  require_auth: 16,
  sslcertmode: 16,
  gssdelegation: 17,
  sslnegotiation: 17,
  max_protocol_version: 18,
  min_protocol_version: 18,
  oauth_client_id: 18,
  oauth_client_secret: 18,
  oauth_issuer: 18,
  oauth_scope: 18,
  scram_client_key: 18,
  scram_server_key: 18,
  sslkeylogfile: 18,
};

/** From this version on a standby takes a database along, for slot synchronization. */
const FIRST_MAJOR_WITH_DBNAME = 17;

/** `user=postgres passfile='/root/.pgpass' host=db1 port=5432 sslmode=prefer`. @throws as resolveConnection */
export function primaryConninfo(
  request: ConnectionRequest,
  { serverMajor, askedPassword }: StandbyOf,
): string {
  const given = new OptionValues(request);
  const defaults = defaultsOf(request, given);
  const dbname = parseConnectionString(request.dbname ?? '').get('dbname') ?? '';
  const words: string[] = [];
  for (const keyword of CONNECTION_OPTIONS.keys()) {
    if (keyword === 'target_session_attrs' && !knowsSession(given.text(keyword), serverMajor)) continue;
    if (NEVER_WRITTEN.has(keyword) || (KNOWN_SINCE[keyword] ?? 0) > serverMajor) continue;
    const asked = keyword === 'password' ? askedPassword : undefined;
    const value = asked ?? given.text(keyword) ?? defaults[keyword];
    if (value !== undefined) words.push(`${keyword}=${quoteValue(value)}`);
  }
  if (dbname !== '' && serverMajor >= FIRST_MAJOR_WITH_DBNAME) words.push(`dbname=${quoteValue(dbname)}`);
  return words.join(' ');
}

/** Those defaults that depend on who connects, and from where: another user or machine would not have them. */
function defaultsOf(
  request: ConnectionRequest,
  given: OptionValues,
): Readonly<Record<string, string | undefined>> {
  const { homeDirectory, osUser } = request;
  const hasHost = given.text('host') !== undefined || given.text('hostaddr') !== undefined;
  const hasPassword = given.text('password') !== undefined;
  return {
    user: osUser,
    // libpq does not look for one where it is given the password
    passfile: hasPassword || homeDirectory === '' ? undefined : join(homeDirectory, '.pgpass'),
    channel_binding: 'prefer',
    host: hasHost ? undefined : resolveConnection(request).host,
    port: '5432',
    sslmode: resolveConnection(request).sslmode,
  };
}

/** Before 14 a standby's libpq asks for read-write sessions or for none in particular. */
function knowsSession(wanted: string | undefined, serverMajor: number): boolean {
  return serverMajor >= 14 || wanted === 'any' || wanted === 'read-write';
}

/** appendConnStrVal. */
function quoteValue(value: string): string {
  if (/^[\w.]+$/.test(value)) return value;
  return `'${value.replaceAll(/['\\]/g, String.raw`\$&`)}'`;
}
