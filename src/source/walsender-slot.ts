/*
 * Holds the WAL of a backup that fetches it at its end, with a slot that goes with the session: asked of the server by the
 * client, since the parallel commands do not say beforehand who will want WAL, and nobody else should make the server keep
 * it. `serve` passes the command on to a walsender of the session's own. Called by walsender-source.ts; twin of holdWal in
 * sql-statements.ts.
 */
import { ConvoyError } from '../errors.js';
import { READ_SILENCE_MS } from '../limits.js';
import type { ServerConnection } from '../wire/connection.js';

/**
 * Where no slot can be had, the server keeps as much as it is set to: that is said, and the backup goes on.
 *
 * @returns true where a slot holds it
 */
export async function holdWalOfSession(connection: ServerConnection): Promise<boolean> {
  const reason = await tryToHold(connection);
  if (reason === undefined) return true;
  const message = `no slot holds the WAL of the backup: ${reason}`;
  const hint = 'raise max_replication_slots or wal_keep_size';
  connection.onNotice({ severity: 'NOTICE', message, hint });
  return false;
}

/** @returns why there is no slot */
async function tryToHold(connection: ServerConnection): Promise<string | undefined> {
  const timeout = await answerOf(connection, 'SHOW idle_replication_slot_timeout');
  // since 18; it would end the session that has the slot, and with it the backup
  if (typeof timeout === 'string' && timeout !== '0') {
    return `idle_replication_slot_timeout is ${timeout.slice(0, 40)}`;
  }
  const name = `pgconvoy_${connection.processId}`;
  // the old form of the options, which every release understands
  const made = await answerOf(connection, `CREATE_REPLICATION_SLOT "${name}" TEMPORARY PHYSICAL RESERVE_WAL`);
  return made instanceof ConvoyError ? made.message : undefined;
}

/** The first value, or the server's error. @throws ConvoyError `connection_lost` */
async function answerOf(connection: ServerConnection, command: string): Promise<string | ConvoyError> {
  try {
    const [set] = await connection.run(command, { silenceLimitMs: READ_SILENCE_MS });
    return set?.rows[0]?.[0] ?? '';
  } catch (error) {
    if (error instanceof ConvoyError && error.code === 'server_error') return error;
    throw error;
  }
}
