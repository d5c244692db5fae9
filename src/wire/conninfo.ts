/*
 * Resolves where and how to connect, as libpq does, before anything is opened: options, connection string,
 * service file, environment and defaults become one plain object that the threads receive. Called once a run,
 * at the edge. After pqConnectOptions2 of src/interfaces/libpq/fe-connect.c (PostgreSQL 18); which value wins is
 * up to conninfo-values.ts.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { ConvoyError } from '../errors.js';
import { resolveHosts, type ResolvedHosts } from './conninfo-hosts.js';
import { OptionValues } from './conninfo-values.js';

export { lookupPassword, type PasswordLookup } from './password-file.js';

const SSL_MODES = ['disable', 'allow', 'prefer', 'require', 'verify-ca', 'verify-full'] as const;
const SSL_NEGOTIATIONS = ['postgres', 'direct'] as const;
const SSL_CERTIFICATE_MODES = ['disable', 'allow'] as const;
const CHANNEL_BINDINGS = ['disable', 'prefer', 'require'] as const;
/** In ascending order. */
const TLS_VERSIONS = ['TLSv1', 'TLSv1.1', 'TLSv1.2', 'TLSv1.3'] as const;

export type SslMode = (typeof SSL_MODES)[number];
export type TlsVersion = (typeof TLS_VERSIONS)[number];

/** What was asked for, on the command line and around it. An empty string is the same as nothing. */
export interface ConnectionRequest {
  /** `-d`: a conninfo string or a URI. */
  readonly dbname?: string | undefined;
  /** `-h`, `-p` and `-U`; they win over what `dbname` says. */
  readonly host?: string | undefined;
  readonly port?: string | number | undefined;
  readonly user?: string | undefined;
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** Where .pgpass, .pg_service.conf and .postgresql/ are; empty where there is none. */
  readonly homeDirectory: string;
  /** The default user. */
  readonly osUser: string;
  /** For tests: tells which sockets exist. */
  readonly fileExists?: ((path: string) => boolean) | undefined;
}

/** How to connect, and where to. Plain data, safe to clone; holds passwords, so it is never printed. */
export interface ConnectionSettings extends ResolvedHosts {
  readonly user: string;
  /** Undefined: libpq's default is the user's name; without meaning for replication connections. */
  readonly database?: string;
  readonly password?: string;
  /** The password file; lookupPassword reads it. */
  readonly passfile?: string;
  readonly applicationName?: string;
  /** Command-line options for the server process, as in PGOPTIONS. */
  readonly options?: string;
  /** "require" must be enforced by whoever logs in: with anything but SCRAM-SHA-256-PLUS, do not go on. */
  readonly channelBinding: (typeof CHANNEL_BINDINGS)[number];
  /** Undefined: not set. 0: explicitly without a limit. */
  readonly connectTimeoutMs?: number;
  readonly keepalives: boolean;
  /** 0: the system's default. */
  readonly keepalivesIdleMs: number;
  readonly sslmode: SslMode;
  readonly sslnegotiation: (typeof SSL_NEGOTIATIONS)[number];
  /** A file, or "system". The defaults of this and the next four are files in ~/.postgresql; tls-mode.ts. */
  readonly sslrootcert?: string;
  readonly sslcrl?: string;
  readonly sslcert?: string;
  readonly sslkey?: string;
  readonly sslpassword?: string;
  /** "disable": no client certificate is sent, even where there is one. */
  readonly sslcertmode: (typeof SSL_CERTIFICATE_MODES)[number];
  readonly sslMinProtocolVersion: TlsVersion;
  readonly sslMaxProtocolVersion?: TlsVersion;
  readonly homeDirectory: string;
}

/** True where the settings lead to a Unix-domain socket: never TLS, no keepalives. */
export function isUnixSocket(settings: Pick<ConnectionSettings, 'host' | 'hostaddr'>): boolean {
  return settings.hostaddr === undefined && settings.host.startsWith('/');
}

/**
 * Options win over the connection string, that over the service file, that over the environment, that over
 * libpq's defaults. Reads service files; the password file and certificates are left to lookupPassword and
 * tlsAttempts.
 *
 * @throws ConvoyError `connection_settings`, in libpq's words where it has some: an option that is unknown, not
 *   supported, invalid or in contradiction with another. No password is in its message.
 */
export function resolveConnection(request: ConnectionRequest): ConnectionSettings {
  const values = new OptionValues(request);
  return {
    ...resolveLogin(values, request),
    ...resolveTls(values),
    ...resolveHosts(values, request.fileExists ?? existsSync),
    ...resolveTiming(values),
    homeDirectory: request.homeDirectory,
  };
}

function fail(message: string, hint?: string): never {
  throw new ConvoyError('connection_settings', message, { hint });
}

/** The options that are set, as properties of these names: for optional properties. */
function texts<Name extends keyof ConnectionSettings>(
  values: OptionValues,
  keywords: Readonly<Record<Name, string>>,
): Partial<Readonly<Record<Name, string>>> {
  const found: Partial<Record<Name, string>> = {};
  for (const name in keywords) {
    const text = values.text(keywords[name]);
    if (text !== undefined) found[name] = text;
  }
  return found;
}

function resolveLogin(
  values: OptionValues,
  { homeDirectory, osUser }: ConnectionRequest,
): Pick<
  ConnectionSettings,
  'user' | 'database' | 'password' | 'passfile' | 'applicationName' | 'options' | 'channelBinding'
> {
  return {
    user: values.text('user') ?? osUser,
    ...(homeDirectory === '' ? {} : { passfile: join(homeDirectory, '.pgpass') }),
    ...texts(values, { applicationName: 'fallback_application_name' }),
    ...texts(values, {
      database: 'dbname',
      password: 'password',
      passfile: 'passfile',
      applicationName: 'application_name',
      options: 'options',
    }),
    channelBinding: values.oneOf('channel_binding', CHANNEL_BINDINGS) ?? 'prefer',
  };
}

function resolveTiming(
  values: OptionValues,
): Pick<ConnectionSettings, 'connectTimeoutMs' | 'keepalives' | 'keepalivesIdleMs'> {
  // not used, but wrong values are refused as in libpq
  for (const keyword of ['keepalives_interval', 'keepalives_count', 'tcp_user_timeout'])
    values.integer(keyword);
  const connectTimeout = values.integer('connect_timeout');
  return {
    ...(connectTimeout === undefined ? {} : { connectTimeoutMs: Math.max(0, connectTimeout) * 1000 }),
    keepalives: values.integer('keepalives') !== 0,
    keepalivesIdleMs: Math.max(0, values.integer('keepalives_idle') ?? 0) * 1000,
  };
}

type TlsSettings = Pick<
  ConnectionSettings,
  | 'sslmode'
  | 'sslnegotiation'
  | 'sslrootcert'
  | 'sslcrl'
  | 'sslcert'
  | 'sslkey'
  | 'sslpassword'
  | 'sslcertmode'
  | 'sslMinProtocolVersion'
  | 'sslMaxProtocolVersion'
>;

function resolveTls(values: OptionValues): TlsSettings {
  const modes = resolveSslMode(values);
  const minimum = tlsVersion(values, 'ssl_min_protocol_version') ?? 'TLSv1.2';
  const maximum = tlsVersion(values, 'ssl_max_protocol_version');
  if (maximum !== undefined && TLS_VERSIONS.indexOf(minimum) > TLS_VERSIONS.indexOf(maximum)) {
    fail('invalid SSL protocol version range');
  }
  return {
    ...modes,
    ...texts(values, {
      sslrootcert: 'sslrootcert',
      sslcrl: 'sslcrl',
      sslcert: 'sslcert',
      sslkey: 'sslkey',
      sslpassword: 'sslpassword',
    }),
    sslcertmode: certificateMode(values),
    sslMinProtocolVersion: minimum,
    ...(maximum === undefined ? {} : { sslMaxProtocolVersion: maximum }),
  };
}

function resolveSslMode(values: OptionValues): Pick<ConnectionSettings, 'sslmode' | 'sslnegotiation'> {
  const systemRoots = values.text('sslrootcert') === 'system';
  const sslmode = values.oneOf('sslmode', SSL_MODES) ?? (systemRoots ? 'verify-full' : 'prefer');
  const sslnegotiation = values.oneOf('sslnegotiation', SSL_NEGOTIATIONS) ?? 'postgres';
  if (sslnegotiation === 'direct' && ['disable', 'allow', 'prefer'].includes(sslmode)) {
    fail(
      `weak sslmode "${sslmode}" may not be used with sslnegotiation=direct ` +
        '(use "require", "verify-ca", or "verify-full")',
    );
  }
  if (systemRoots && sslmode !== 'verify-full') {
    fail(`weak sslmode "${sslmode}" may not be used with sslrootcert=system (use "verify-full")`);
  }
  // An address without a name is its own name, except for a certificate.
  if (
    sslmode === 'verify-full' &&
    values.text('host') === undefined &&
    values.text('hostaddr') !== undefined
  ) {
    fail('host name must be specified for a verified SSL connection');
  }
  return { sslmode, sslnegotiation };
}

function certificateMode(values: OptionValues): ConnectionSettings['sslcertmode'] {
  if (values.text('sslcertmode') === 'require') {
    // Node.js does not tell whether the server asked for a certificate.
    const message =
      'connection option "sslcertmode" is not supported yet, other than as "disable" and "allow"';
    fail(message, values.origin('sslcertmode'));
  }
  return values.oneOf('sslcertmode', SSL_CERTIFICATE_MODES) ?? 'allow';
}

function tlsVersion(values: OptionValues, keyword: string): TlsVersion | undefined {
  const text = values.text(keyword);
  if (text === undefined) return undefined;
  const version = TLS_VERSIONS.find((candidate) => candidate.toLowerCase() === text.toLowerCase());
  return version ?? fail(`invalid "${keyword}" value: "${text}"`, values.origin(keyword));
}
