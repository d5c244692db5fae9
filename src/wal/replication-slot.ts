/*
 * The slot that keeps WAL on the server until it has been received. Used by wal-receiver.ts.
 * Rules: CreateReplicationSlot in PostgreSQL's src/bin/pg_basebackup/streamutil.c; names: ReplicationSlotValidateName.
 */
import { randomBytes } from 'node:crypto';
import { ConvoyError } from '../errors.js';
import { READ_SILENCE_MS } from '../limits.js';
import type { ServerConnection } from '../wire/connection.js';

/** Which slot the stream uses. */
export type SlotChoice =
  /** One of the connection's own, which goes with it. */
  | { readonly kind: 'temporary' }
  /** One with a name, which stays. */
  | { readonly kind: 'named'; readonly name: string; readonly create: boolean }
  /** None: the server keeps as much as it is set to. */
  | { readonly kind: 'none' };

/** SQLSTATE of a server that has no slot left (configuration_limit_exceeded). */
const NO_SLOT_LEFT = '53400';

/**
 * Creates the slot, where one is to be created; it reserves WAL at once.
 *
 * @returns the name of the slot to use; undefined for none
 * @throws ConvoyError `server_error` in the server's words
 */
export async function acquireSlot(
  connection: Pick<ServerConnection, 'run'>,
  choice: SlotChoice,
): Promise<string | undefined> {
  if (choice.kind === 'none') return undefined;
  if (choice.kind === 'named' && !choice.create) return choice.name;
  const name = choice.kind === 'named' ? choice.name : `pgconvoy_${randomBytes(8).toString('hex')}`;
  const temporary = choice.kind === 'temporary' ? ' TEMPORARY' : '';
  try {
    // the old form of the options, which every release understands
    const command = `CREATE_REPLICATION_SLOT ${quoteSlot(name)}${temporary} PHYSICAL RESERVE_WAL`;
    await connection.run(command, { silenceLimitMs: READ_SILENCE_MS });
    return name;
  } catch (error) {
    throw describeRefusal(error);
  }
}

/** A slot's name in a replication command. */
export function quoteSlot(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}

function describeRefusal(error: unknown): unknown {
  if (!(error instanceof ConvoyError) || error.code !== 'server_error') return error;
  const { sqlState, message } = error;
  const hint =
    sqlState === NO_SLOT_LEFT
      ? 'free a slot, raise max_replication_slots, or stream without one: --no-slot'
      : error.hint;
  const text = `could not send replication command "CREATE_REPLICATION_SLOT": ${message}`;
  return new ConvoyError('server_error', text, { hint, sqlState, cause: error });
}
