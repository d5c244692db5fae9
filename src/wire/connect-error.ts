/*
 * What a failed attempt to connect is reported as, and whether another kind of connection is worth a try. Called by
 * connection.ts; the words for failures of the network are those of connect-failure.ts.
 */
import { ConvoyError } from '../errors.js';
import { connectFailure, describeServer, type ConnectFailure } from './connect-failure.js';
import type { ConnectionSettings } from './conninfo.js';
import { isServerError, serverError } from './server-error.js';

/** Why a server could not be connected to, with libpq's words; what a server may not send stays what it is. */
export function connectError(settings: ConnectionSettings, error: unknown): ConvoyError {
  const { message, hint, sqlState } = connectCause(settings, error);
  if (error instanceof ConvoyError && error.code !== 'connection_failed' && error.code !== 'connection_lost')
    return error;
  const text = `connection to ${describeServer(settings)} failed: ${message}`;
  return new ConvoyError('connection_failed', text, { sqlState, hint, cause: error });
}

function connectCause(
  settings: ConnectionSettings,
  error: unknown,
): ConnectFailure & { readonly sqlState?: string | undefined } {
  if (error instanceof ConvoyError) return { hint: undefined, ...error.toPlain() };
  if (!isServerError(error)) return connectFailure(settings, error);
  return { hint: undefined, ...serverError(error, 'connection_failed').toPlain() };
}

/**
 * libpq tries the other kind of connection when the server refuses this one, or pg_hba.conf does (28000), not
 * after a wrong password.
 */
export function mayRetryWithOtherTls(error: unknown): boolean {
  if (error instanceof ConvoyError) return false;
  if (isServerError(error)) return error.code === '28000';
  const isUnreachable = error instanceof Error && 'syscall' in error && error.syscall !== 'read';
  return !isUnreachable;
}
