/*
 * WAL positions. A bigint with a brand, written as PostgreSQL writes it ("16/B374D848").
 * Rules: pg_lsn_in_internal in PostgreSQL's src/backend/utils/adt/pg_lsn.c.
 */

declare const lsnBrand: unique symbol;

/** A byte position in the WAL, 0 to 2^64 - 1. */
export type Lsn = bigint & { readonly [lsnBrand]: true };

/** The position that PostgreSQL calls invalid, 0/0. */
export const INVALID_LSN = 0n as Lsn;

/** The last position that there is. */
export const MAX_LSN = 0xffff_ffff_ffff_ffffn as Lsn;

const LSN_PATTERN = /^([0-9a-fA-F]{1,8})\/([0-9a-fA-F]{1,8})$/;

/** "X/X" to a position, or undefined where the text is not one. */
export function parseLsn(text: string): Lsn | undefined {
  const match = LSN_PATTERN.exec(text);
  if (match === null) return undefined;
  return ((BigInt(`0x${match[1]}`) << 32n) | BigInt(`0x${match[2]}`)) as Lsn;
}

/** A position as PostgreSQL prints it with "%X/%X". */
export function formatLsn(lsn: Lsn): string {
  return `${(lsn >> 32n).toString(16)}/${(lsn & 0xffffffffn).toString(16)}`.toUpperCase();
}
