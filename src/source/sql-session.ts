/*
 * A session of the sql source on a stock server: how it is opened, and what each of its two kinds (coordinator, worker)
 * asks in the same words.
 */
import { CONTROL_FILE_BYTES } from '../limits.js';
import { CONTROL_FILE_PATH, isIntactControlFile } from '../pgdata/control-file.js';
import { ServerConnection } from '../wire/connection.js';
import type { OpenOptions } from '../wire/open-options.js';
import type { ConnectionSettings } from '../wire/conninfo.js';
import { ConvoyError } from '../errors.js';
import { CONNECTION_CHECK, sessionSettingsStatement } from './sql-statements.js';

/** Needed by the first statement already: a role may have other defaults, which end it, wait for others or fail on a standby. */
const STARTUP_OPTIONS = [
  '-c statement_timeout=0 -c lock_timeout=0',
  String.raw`-c default_transaction_isolation=read\ committed -c default_transaction_deferrable=off`,
].join(' ');

/** libpq's default, the user's name, is rarely a database; the functions are granted where this is connected to. */
const DEFAULT_DATABASE = 'postgres';
const CONTROL_FILE_ATTEMPTS = 10;

/** @throws ConvoyError `connection_failed` */
export async function openSqlSession(
  settings: ConnectionSettings,
  options: OpenOptions,
): Promise<ServerConnection> {
  const database = settings.database ?? DEFAULT_DATABASE;
  const connection = await ServerConnection.open(
    { ...settings, database, options: `${settings.options ?? ''} ${STARTUP_OPTIONS}` },
    options,
  );
  try {
    await connection.run(sessionSettingsStatement());
    await connection.run(CONNECTION_CHECK).catch(ignoreServerError);
    return connection;
  } catch (error) {
    connection.destroy();
    throw error;
  }
}

/** Bytes of a part of a file; undefined where the file is gone. For small parts: the bytes cross as text. */
export async function readBytes(
  connection: Pick<ServerConnection, 'query'>,
  path: string,
  offset: number,
  length: number,
): Promise<Buffer | undefined> {
  const [row] = await connection.query('SELECT pg_catalog.pg_read_binary_file($1, $2, $3, true)', [
    path,
    offset,
    length,
  ]);
  const text = row?.[0] ?? null;
  if (text === null) return undefined;
  if (!text.startsWith(String.raw`\x`) || text.length > 2 + 2 * length) {
    throw new ConvoyError('untrusted_peer', `unexpected content of file "${path}"`);
  }
  return Buffer.from(text.slice(2), 'hex');
}

/** pg_control, read again while it is torn. @throws ConvoyError `file_damaged` where it stays so */
export async function readControlBytes(connection: ServerConnection): Promise<Buffer> {
  for (let attempt = 1; attempt <= CONTROL_FILE_ATTEMPTS; attempt += 1) {
    // oxlint-disable-next-line eslint/no-await-in-loop
    const bytes = await readBytes(connection, CONTROL_FILE_PATH, 0, CONTROL_FILE_BYTES);
    if (bytes !== undefined && isIntactControlFile(bytes)) return bytes;
  }
  throw new ConvoyError('file_damaged', `invalid checksum in control file "${CONTROL_FILE_PATH}"`);
}

function ignoreServerError(error: unknown): void {
  if (!(error instanceof ConvoyError) || error.code !== 'server_error') throw error;
}
