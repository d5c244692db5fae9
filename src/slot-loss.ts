/*
 * What may have ended a session that holds a replication slot: to invalidate one, a server ends the session with the words that
 * it has for an administrator's command (InvalidatePossiblyObsoleteSlot in slot.c). Used where WAL is held for a backup.
 */
import { ConvoyError } from './errors.js';

/** SQLSTATE admin_shutdown. */
const ADMIN_SHUTDOWN = '57P01';

/** The same loss, with what may be behind it, and the remedy. */
export function explainSlotLoss(reason: ConvoyError): ConvoyError {
  if (reason.sqlState !== ADMIN_SHUTDOWN || reason.hint !== undefined) return reason;
  const hint =
    'if nobody has ended the session, the slot that holds the WAL was invalidated: raise max_slot_wal_keep_size on the server';
  return new ConvoyError(reason.code, reason.message, { hint, sqlState: ADMIN_SHUTDOWN, cause: reason });
}
