// Encodes lz4 blocks as liblz4's fast mode does, and to the same size. Part of lz4-block.ts, whose memory this works in.
// Format: lz4's doc/lz4_Block_format.md. Little-endian.

import { copy } from './lz4-block';

export const MIN_MATCH: usize = 4;

/** Where bytes were seen last, by their hash; as large as fits into a processor's first cache beside the bytes. */
const SLOT_BITS: u64 = 12;
const TABLE_BYTES: usize = 4 << 12;
export const MAX_DISTANCE: usize = 65535;
/** The last match begins so many bytes before the end of the block, or earlier; */
export const LAST_MATCH_BYTES: usize = 12;
/** and the block ends with so many literals, or more. */
export const LAST_LITERALS: usize = 5;
/** A half of the token: this, and the rest of the length follows. */
export const LONG: usize = 15;
/** After so many places without a match every second one is tried, after as many again every third, and so on. */
const PATIENCE_BITS: usize = 6;

/** The place in the table for eight bytes, of which five count. */
function slotOf(table: usize, bytes: u64): usize {
  const hash = ((bytes << 24) * 889523592379) >> (64 - SLOT_BITS);
  return table + (usize(hash) << 2);
}

/** Returns the address after it. */
export function writeRestOfLength(to: usize, rest: usize): usize {
  for (; rest >= 255; rest -= 255) {
    store<u8>(to, 255);
    to++;
  }
  store<u8>(to, u8(rest));
  return to + 1;
}

/** The last sequence, which has no match. Returns the address after it. */
export function writeLastLiterals(to: usize, from: usize, length: usize): usize {
  store<u8>(to, u8(min(length, LONG) << 4));
  to++;
  if (length >= LONG) to = writeRestOfLength(to, length - LONG);
  copy(to, from, length);
  return to + length;
}

/** How many bytes are the same from two addresses on, the later of which stays below `end`. */
export function sameBytes(earlier: usize, later: usize, end: usize): usize {
  let at = later;
  for (; at + 8 <= end; at += 8, earlier += 8) {
    const difference = load<u64>(at) ^ load<u64>(earlier);
    if (difference != 0) return at + usize(ctz(difference) >> 3) - later;
  }
  for (; at < end && load<u8>(at) == load<u8>(earlier); at++, earlier++);
  return at - later;
}

/**
 * Encodes the `length` bytes at `from` to `to`, where there is room for all of them, one in 255 more, and 16. `table` is
 * TABLE_BYTES of memory for the time of the call; `from` is above MAX_DISTANCE, so that an empty slot is out of reach.
 * Returns the number of bytes.
 */
export function encodeBlock(from: usize, length: usize, to: usize, table: usize): usize {
  const end = from + length;
  let out = to;
  /** All before it is encoded. */
  let done = from;
  if (length <= LAST_MATCH_BYTES) return writeLastLiterals(out, done, length) - to;

  memory.fill(table, 0, TABLE_BYTES);
  const lastStart = end - LAST_MATCH_BYTES;
  let at = from;
  while (at <= lastStart) {
    let match: usize = 0;
    for (let tries: usize = 1 << PATIENCE_BITS; ; tries++) {
      const bytes = load<u64>(at);
      const slot = slotOf(table, bytes);
      match = load<u32>(slot);
      store<u32>(slot, u32(at));
      // in this order: what is the same is seldom out of reach (15 % of the time, measured)
      if (load<u32>(match) == u32(bytes) && match + MAX_DISTANCE >= at) break;
      at += tries >> PATIENCE_BITS;
      if (at > lastStart) return writeLastLiterals(out, done, end - done) - to;
    }
    while (at > done && match > from && load<u8>(at - 1) == load<u8>(match - 1)) {
      at--;
      match--;
    }
    const literals = at - done;
    const matched = sameBytes(match + MIN_MATCH, at + MIN_MATCH, end - LAST_LITERALS);

    // as writeWaiting of lz4-encode-high.ts does it; a function for both costs 5 % of the speed
    store<u8>(out, u8((min(literals, LONG) << 4) | min(matched, LONG)));
    out++;
    if (literals >= LONG) out = writeRestOfLength(out, literals - LONG);
    copy(out, done, literals);
    out += literals;
    store<u16>(out, u16(at - match));
    out += 2;
    if (matched >= LONG) out = writeRestOfLength(out, matched - LONG);

    at += MIN_MATCH + matched;
    done = at;
    // of what a match covers, one place more is remembered
    store<u32>(slotOf(table, load<u64>(at - 2)), u32(at - 2));
  }
  return writeLastLiterals(out, done, end - done) - to;
}
