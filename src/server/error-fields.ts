/* A ConvoyError as the fields of an ErrorResponse: what a client of `serve` is told. */
import type { ConvoyError, ErrorCode } from '../errors.js';
import type { MessageFields } from '../wire/backend-messages.js';
import { bareMessage } from './server-access.js';

/** For errors that name none themselves; XX000 (internal_error) for the rest. */
const SQL_STATES: Partial<Record<ErrorCode, string>> = {
  cancelled: '57014',
  connection_failed: '08001',
  connection_lost: '08006',
  file_damaged: 'XX001',
  page_checksum: 'XX001',
  server_unsupported: '0A000',
  target_io: '58030',
  untrusted_peer: '08P01',
  wal_missing: '58P01',
};

/** errcode_for_file_access of PostgreSQL's src/backend/utils/error/elog.c. */
const FILE_SQL_STATES: Readonly<Record<string, string>> = {
  EACCES: '42501',
  EPERM: '42501',
  EROFS: '42501',
  ENOENT: '58P01',
  EEXIST: '58P02',
  ENOSPC: '53100',
  EMFILE: '53000',
  ENFILE: '53000',
  EIO: '58030',
};

export function errorFields(error: ConvoyError, severity: 'ERROR' | 'FATAL'): MessageFields {
  return { severity, sqlState: sqlStateOf(error), message: bareMessage(error), hint: error.hint };
}

function sqlStateOf(error: ConvoyError): string {
  if (error.sqlState !== undefined) return error.sqlState;
  const systemCode = error.cause instanceof Error ? (error.cause as NodeJS.ErrnoException).code : undefined;
  return FILE_SQL_STATES[systemCode ?? ''] ?? SQL_STATES[error.code] ?? 'XX000';
}
