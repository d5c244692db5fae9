/* WAL that a backup needs and the server has no more: said in the same words wherever it is noticed. */
import { assertNever } from '../assert-never.js';
import { ConvoyError } from '../errors.js';

/** What holds, or could hold, the WAL: the parallel commands know no slot, and the server may invalidate one. */
export type WalHolder = 'no slot' | 'slot possible' | 'slot invalidated';

export function walGone(segment: string, holder: WalHolder): ConvoyError {
  const message = `requested WAL segment ${segment} has already been removed`;
  const hint = `${remedyFor(holder)}; or use -X none with an archive`;
  const why = holder === 'slot invalidated' ? ': the replication slot that held it was invalidated' : '';
  return new ConvoyError('wal_missing', message + why, { hint });
}

function remedyFor(holder: WalHolder): string {
  switch (holder) {
    case 'no slot':
      return 'raise wal_keep_size on the server';
    case 'slot possible':
      return 'raise wal_keep_size on the server, or let a slot hold the WAL: ALTER ROLE ... REPLICATION';
    case 'slot invalidated':
      return 'raise max_slot_wal_keep_size on the server';
    default:
      return assertNever(holder);
  }
}
