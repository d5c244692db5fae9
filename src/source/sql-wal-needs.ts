/*
 * What the server must allow for the WAL of a backup to come along: streamed over a replication connection, with a slot that
 * holds it, or fetched at the end. Called by sql-requirements.ts.
 * Rules: InitWalSenderSlot in PostgreSQL's src/backend/replication/walsender.c, ReplicationSlotCreate in slot.c.
 */
import type { ServerConnection } from '../wire/connection.js';
import { grantReplication } from './sql-grants.js';
import type { Requirement } from './requirement.js';

/** How the WAL is to come along; a slot that is there already needs no free one. */
export type WalNeed = 'none' | 'fetch' | 'stream' | 'stream_with_new_slot';

export function isStreamed(need: WalNeed): boolean {
  return need === 'stream' || need === 'stream_with_new_slot';
}

const FACTS = `
  SELECT current_user, r.rolreplication OR r.rolsuper,
    pg_catalog.current_setting('max_replication_slots'), (SELECT pg_catalog.count(*) FROM pg_catalog.pg_replication_slots),
    COALESCE(pg_catalog.current_setting('idle_replication_slot_timeout', true), '0'),
    pg_catalog.current_setting('max_wal_senders'), (SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_replication)
  FROM pg_catalog.pg_roles AS r WHERE r.rolname = current_user`;

interface WalFacts {
  readonly role: string;
  readonly mayReplicate: boolean;
  readonly maxSlots: number;
  readonly slots: number;
  /** "0" where the server has none. */
  readonly idleSlotTimeout: string;
  readonly maxWalsenders: number;
  readonly walsenders: number;
}

/** REPLICATION, a free slot and, for a stream, a walsender. */
export async function checkWalNeeds(connection: ServerConnection, need: WalNeed): Promise<Requirement[]> {
  const [row = []] = await connection.query(FACTS);
  const [role, mayReplicate, maxSlots, slots, idleSlotTimeout, maxWalsenders, walsenders] = row;
  const facts: WalFacts = {
    role: role ?? '',
    mayReplicate: mayReplicate === 't',
    maxSlots: Number(maxSlots),
    slots: Number(slots),
    idleSlotTimeout: idleSlotTimeout ?? '0',
    maxWalsenders: Number(maxWalsenders),
    walsenders: Number(walsenders),
  };
  const requirements = [checkReplication(facts, need), checkSlot(facts, need)];
  return isStreamed(need) ? [...requirements, checkWalsender(facts)] : requirements;
}

const RECYCLED = '; a backup fails if the server recycles WAL that it needs';
const OTHERWISE = 'or take the WAL at the end with -X fetch';

function checkReplication({ role, mayReplicate }: WalFacts, need: WalNeed): Requirement {
  const name = 'REPLICATION';
  const isNeeded = isStreamed(need);
  if (mayReplicate) {
    return { name, isMet: true, isNeeded, finding: 'the role may have a slot, and stream WAL' };
  }
  const grant = grantReplication(role);
  if (isNeeded) {
    const finding = 'the role lacks REPLICATION, which -X stream needs';
    return { name, isMet: false, isNeeded, finding, remedy: `${grant} -- ${OTHERWISE}` };
  }
  const finding = `the role lacks REPLICATION: no slot can hold the WAL${need === 'fetch' ? RECYCLED : ''}`;
  return { name, isMet: false, isNeeded, finding, remedy: grant };
}

function checkSlot({ maxSlots, slots, idleSlotTimeout }: WalFacts, need: WalNeed): Requirement {
  const slot = { name: 'slot', isNeeded: need === 'stream_with_new_slot' } as const;
  const free = maxSlots - slots;
  if (free <= 0) {
    const finding = slot.isNeeded
      ? 'no replication slot is free, and -X stream makes one'
      : `no replication slot is free: none can hold the WAL${need === 'fetch' ? RECYCLED : ''}`;
    const raise = `ALTER SYSTEM SET max_replication_slots = ${slots + 1}; -- and restart the server`;
    const remedy = slot.isNeeded ? `${raise}, or use --no-slot` : raise;
    return { ...slot, isMet: false, finding, remedy };
  }
  if (need === 'fetch' && idleSlotTimeout !== '0') {
    // it would end the session that has the slot, and with it the backup (sql-statements.ts, holdWal)
    const finding = `idle_replication_slot_timeout is ${idleSlotTimeout}: no slot is used to hold the WAL${RECYCLED}`;
    const remedy = 'ALTER SYSTEM SET idle_replication_slot_timeout = 0; SELECT pg_reload_conf();';
    return { ...slot, isMet: false, finding, remedy };
  }
  return { ...slot, isMet: true, finding: `${free} of ${maxSlots} are free` };
}

function checkWalsender({ maxWalsenders, walsenders }: WalFacts): Requirement {
  const name = 'walsender';
  const free = maxWalsenders - walsenders;
  if (free > 0) {
    return { name, isMet: true, isNeeded: true, finding: `${free} of ${maxWalsenders} are free` };
  }
  return {
    name,
    isMet: false,
    isNeeded: true,
    finding: `no walsender is free for -X stream: max_wal_senders is ${maxWalsenders}`,
    remedy: `ALTER SYSTEM SET max_wal_senders = ${walsenders + 1}; -- and restart the server, ${OTHERWISE}`,
  };
}
