/* An ErrorResponse, as node-postgres reports it, in pgconvoy's terms. Used by connection.ts and command-run.ts. */
import type { DatabaseError } from 'pg';
import { ConvoyError, type ErrorCode } from '../errors.js';
import { pg } from './pg.js';

export function isServerError(error: unknown): error is DatabaseError {
  return error instanceof pg.DatabaseError && error.severity !== undefined;
}

/** The server's own words, as a client of PostgreSQL prints them. */
export function serverError(error: DatabaseError, code: ErrorCode = 'server_error'): ConvoyError {
  const detail = error.detail === undefined ? '' : ` (${error.detail})`;
  const message = `${error.severity ?? 'ERROR'}:  ${error.message}${detail}`;
  return new ConvoyError(code, message, { hint: error.hint, sqlState: error.code, cause: error });
}
