/*
 * Why a connection could not be opened, in libpq's words instead of Node.js's ("connect ECONNREFUSED 127.0.0.1:5433", or
 * nothing at all where a name has several addresses). Used by connection.ts.
 * Source: connectFailureMessage and PQconnectPoll in PostgreSQL's src/interfaces/libpq/fe-connect.c.
 */
import { isUnixSocket, type ConnectionSettings } from './conninfo.js';

export interface ConnectFailure {
  readonly message: string;
  readonly hint: string | undefined;
}

/** strerror(3). */
const SYSTEM_REASONS: Readonly<Record<string, string>> = {
  EACCES: 'Permission denied',
  ECONNREFUSED: 'Connection refused',
  ECONNRESET: 'Connection reset by peer',
  EHOSTUNREACH: 'No route to host',
  ENETUNREACH: 'Network is unreachable',
  ENOENT: 'No such file or directory',
  ENOTFOUND: 'Name or service not known',
  EAI_AGAIN: 'Temporary failure in name resolution',
  ETIMEDOUT: 'Connection timed out',
};

/** @param error what node:net or node-postgres has thrown */
export function connectFailure(settings: ConnectionSettings, error: unknown): ConnectFailure {
  // a name with several addresses: an error each, and none in the message
  const first: unknown = error instanceof AggregateError ? error.errors[0] : error;
  if (!(first instanceof Error)) return { message: String(first), hint: undefined };
  const { code = '', syscall } = first as NodeJS.ErrnoException;
  const message = SYSTEM_REASONS[code] ?? first.message;
  if (syscall === 'getaddrinfo') {
    const unknown = `could not translate host name "${settings.host}" to address: ${message}`;
    return { message: unknown, hint: undefined };
  }
  if (syscall !== 'connect') return { message, hint: undefined };
  const hint = isUnixSocket(settings)
    ? 'is the server running locally and accepting connections on that socket?'
    : 'is the server running on that host and accepting TCP/IP connections?';
  return { message, hint };
}

/** True where nobody was reached, as against one who was and said no. @param error as for connectFailure() */
export function isUnreachable(error: unknown): boolean {
  const first: unknown = error instanceof AggregateError ? error.errors[0] : error;
  if (!(first instanceof Error)) return false;
  const { syscall } = first as NodeJS.ErrnoException;
  // the words of node-postgres when connectionTimeoutMillis is over
  return syscall === 'connect' || syscall === 'getaddrinfo' || first.message === 'timeout expired';
}

/** `server at "db1", port 5432`, or the socket's path, as libpq names it. */
export function describeServer(settings: Pick<ConnectionSettings, 'host' | 'hostaddr' | 'port'>): string {
  const { host, port } = settings;
  return isUnixSocket(settings)
    ? `server on socket "${host}/.s.PGSQL.${port}"`
    : `server at "${host}", port ${port}`;
}
