/*
 * The servers that a connection may be opened to: lists of hosts, addresses and ports matched with each other, and which
 * of the servers will do. Called by conninfo.ts; tried in order by host-choice.ts.
 * Source: pqConnectOptions2 of src/interfaces/libpq/fe-connect.c (PostgreSQL 18).
 */
import { isIP } from 'node:net';
import { ConvoyError } from '../errors.js';
import { DEFAULT_SOCKET_DIRECTORIES } from './conninfo-options.js';
import type { OptionValues } from './conninfo-values.js';

const TARGET_SESSION_ATTRS = [
  'any',
  'read-write',
  'read-only',
  'primary',
  'standby',
  'prefer-standby',
] as const;
const LOAD_BALANCE_HOSTS = ['disable', 'random'] as const;

/** What a server must be to be taken. */
export type TargetSessionAttrs = (typeof TARGET_SESSION_ATTRS)[number];

const DEFAULT_PORT = 5432;

/** One server of those that may be connected to. */
export interface HostAddress {
  /** A name, an address, or the directory of a Unix-domain socket (begins with "/"). */
  readonly host: string;
  /** Connect to this address instead of looking `host` up; `host` stays the name that certificates are for. */
  readonly hostaddr?: string;
  readonly port: number;
}

/** The first of the servers, and the others where there are some. */
export interface ResolvedHosts extends HostAddress {
  readonly otherHosts?: readonly HostAddress[];
  /** Undefined: any server will do. */
  readonly targetSessionAttrs?: Exclude<TargetSessionAttrs, 'any'>;
  /** The hosts are tried in random order. */
  readonly loadBalanceHosts?: true;
}

/** @throws ConvoyError `connection_settings` in libpq's words */
export function resolveHosts(values: OptionValues, fileExists: (path: string) => boolean): ResolvedHosts {
  const [first, ...others] = hostAddresses(values, fileExists);
  if (first === undefined) throw new TypeError('a list has at least one element');
  const attrs = values.oneOf('target_session_attrs', TARGET_SESSION_ATTRS) ?? 'any';
  const isShuffled = values.oneOf('load_balance_hosts', LOAD_BALANCE_HOSTS) === 'random';
  return {
    ...first,
    ...(others.length === 0 ? {} : { otherHosts: others }),
    ...(attrs === 'any' ? {} : { targetSessionAttrs: attrs }),
    ...(isShuffled ? { loadBalanceHosts: true } : {}),
  };
}

function hostAddresses(values: OptionValues, fileExists: (path: string) => boolean): HostAddress[] {
  const hosts = values.text('host')?.split(',');
  const addresses = values.text('hostaddr')?.split(',');
  const count = (addresses ?? hosts ?? ['']).length;
  if (hosts !== undefined && hosts.length !== count) {
    const message = `could not match ${hosts.length} host names to ${count} hostaddr values`;
    fail(message, values.origin('host'));
  }
  const ports = resolvePorts(values, count);
  return ports.map((port, index) => {
    const host = hosts?.[index] ?? '';
    const hostaddr = addresses?.[index] ?? '';
    if (hostaddr !== '' && isIP(hostaddr) === 0) fail(`could not parse network address "${hostaddr}"`);
    if (host.startsWith('@')) {
      const message = `sockets in the abstract namespace are not supported yet: "${host}"`;
      fail(message, values.origin('host'));
    }
    if (hostaddr !== '') return host === '' ? { host: hostaddr, port } : { host, hostaddr, port };
    return { host: host === '' ? defaultSocketDirectory(port, fileExists) : host, port };
  });
}

/** One for all, or one for each. */
function resolvePorts(values: OptionValues, count: number): number[] {
  const texts = values.text('port')?.split(',') ?? [''];
  if (texts.length !== 1 && texts.length !== count) {
    fail(`could not match ${texts.length} port numbers to ${count} hosts`, values.origin('port'));
  }
  return Array.from({ length: count }, (_none, index) => {
    const text = (texts.length === 1 ? texts[0] : texts[index]) ?? '';
    if (text === '') return DEFAULT_PORT;
    const port = values.parseInteger('port', text);
    if (port < 1 || port > 65_535) fail(`invalid port number: "${text}"`, values.origin('port'));
    return port;
  });
}

function defaultSocketDirectory(port: number, fileExists: (path: string) => boolean): string {
  const found = DEFAULT_SOCKET_DIRECTORIES.find((directory) => fileExists(`${directory}/.s.PGSQL.${port}`));
  return found ?? '/tmp';
}

function fail(message: string, hint?: string): never {
  throw new ConvoyError('connection_settings', message, { hint });
}
