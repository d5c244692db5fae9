// Encodes lz4 blocks smaller than lz4-encode.ts does, in more time: what liblz4 calls its high compression mode. Part of
// lz4-block.ts. Finds matches through chains of places with the same hash, at the ends of known matches only (LZ4HC's
// frugality), then chooses among them backward from the end of a segment, where the cheapest way is known exactly: of the
// matches at a place only the longest counts, since every distance costs the same.

import { copy } from './lz4-block';
import {
  LAST_LITERALS,
  LAST_MATCH_BYTES,
  LONG,
  MAX_DISTANCE,
  MIN_MATCH,
  sameBytes,
  writeLastLiterals,
  writeRestOfLength,
} from './lz4-encode';

const HASH_BITS: u32 = 15;
/** Places that are chosen for at once. */
const SEGMENT: usize = 1 << 14;
/** Room for the places at the end of the block as well, where no match begins. */
const END: usize = 16;

// The tables, at addresses of their own from 0 on; LZ4_HIGH_TABLE_BYTES of ../lz4-module.ts is all of them.
/** u32 by hash: where it was seen last. */
const HEADS: usize = 0;
/** u16 by the last bits of a place: how far before it the same hash was seen. */
const CHAIN: usize = HEADS + (4 << HASH_BITS);
/** u32 by place in the segment: the match that begins there, distance << 16 | length, or 0. */
const FOUND: usize = CHAIN + (2 << 16);
/** u32 by place in the segment: bytes that the segment takes from there on. */
const COSTS: usize = FOUND + 4 * (SEGMENT + END);

/** What FOUND holds of a longer match; `addMatch` puts the parts together again. */
const MAX_FOUND: usize = 65535;
/** A token, and the distance. */
const MATCH_COST: u32 = 3;
/** From this length on a match takes a byte more, and one more for every 255 after it. */
const LONG_MATCH: usize = MIN_MATCH + LONG;
/** So many places of a match are looked at for one whose hash is rarer. */
const AHEAD: usize = 16;

let blockStart: usize = 0;
let matchEnd: usize = 0;
let attempts: u32 = 0;
let settled: usize = 0;

/** Where the match that `longerMatch` found lies. */
let matchAt: usize = 0;
/** What goes on of the last match found, beyond the segment. */
let openLength: usize = 0;
let openDistance: usize = 0;

/** Where to write; all before `done` is written, and one match after it may wait, since it can turn out longer. */
let out: usize = 0;
let done: usize = 0;
let waitingAt: usize = 0;
let waitingLength: usize = 0;
let waitingDistance: usize = 0;

/** Remembers a place. Returns the one before with the same hash. */
function remember(at: usize, bytes: u32): usize {
  const slot = usize((bytes * 2654435761) >> (32 - HASH_BITS)) << 2;
  const before: usize = load<u32>(slot, HEADS);
  store<u32>(slot, u32(at), HEADS);
  store<u16>((at & 0xffff) << 1, u16(min(at - before, MAX_DISTANCE)), CHAIN);
  return before;
}

function stepBack(at: usize): usize {
  return load<u16>((at & 0xffff) << 1, CHAIN);
}

/**
 * The length of the longest match at `at`, or `length`, at least 3, where none is longer. Every place that could have a
 * longer one is in the chains of all places that the longest covers: whichever leads back farthest is followed.
 */
function longerMatch(at: usize, bytes: u32, candidate: usize, length: usize): usize {
  const lowest = max(at - MAX_DISTANCE, blockStart);
  const end = matchEnd;
  let longest = length;
  /** The chain is that of so many bytes after the candidate. */
  let ahead: usize = 0;
  for (let left = attempts; candidate >= lowest; candidate -= stepBack(candidate + ahead)) {
    if (load<u32>(candidate + longest - 3) == load<u32>(at + longest - 3) && load<u32>(candidate) == bytes) {
      const same = MIN_MATCH + sameBytes(candidate + MIN_MATCH, at + MIN_MATCH, end);
      if (same > longest) {
        longest = same;
        matchAt = candidate;
        if (at + longest == end) break;
        const last = min(min(longest - 3, AHEAD), at - candidate);
        let farthest = stepBack(candidate + ahead);
        for (let index: usize = 0; index < last; index++) {
          const step = stepBack(candidate + index);
          if (step > farthest) {
            farthest = step;
            ahead = index;
          }
        }
      }
    }
    if (--left == 0) break;
  }
  return longest;
}

/** Stores for the places before `entry` the match that ends with the one at `at`, wherever it is longer. */
function extendBack(entry: usize, at: usize, length: usize, distance: usize): void {
  while (entry > 0 && at - distance > blockStart && load<u8>(at - 1) == load<u8>(at - 1 - distance)) {
    at--;
    entry -= 4;
    length = min(length + 1, MAX_FOUND);
    if (usize(load<u16>(entry, FOUND)) >= length) return;
    store<u32>(entry, u32((distance << 16) | length), FOUND);
  }
}

/** Fills FOUND for the places from `start` to `stop`, and remembers them. */
function findMatches(start: usize, stop: usize): void {
  const quiet = settled;
  /** What is left, at `at`, of the match found last. */
  let length = openLength;
  let distance = openDistance;
  /** The end of a match that was outdone before: up to there a still longer one may begin. */
  let outdone: usize = 0;
  let entry: usize = 0;
  for (let at = start; at < stop;) {
    if (length > quiet && at >= outdone) {
      const last = min(stop, at + length - quiet);
      for (; length <= MAX_FOUND && at + 4 <= last; at += 4, entry += 16, length -= 4) {
        const bytes = load<u64>(at);
        remember(at, u32(bytes));
        remember(at + 1, u32(bytes >> 8));
        remember(at + 2, u32(bytes >> 16));
        remember(at + 3, u32(bytes >> 24));
        v128.store(entry, i32x4.sub(i32x4.splat(u32((distance << 16) | length)), i32x4(0, 1, 2, 3)), FOUND);
      }
      for (; at < last; at++, entry += 4, length--) {
        remember(at, load<u32>(at));
        store<u32>(entry, u32((distance << 16) | min(length, MAX_FOUND)), FOUND);
      }
      continue;
    }
    const bytes = load<u32>(at);
    const known = max(length, MIN_MATCH - 1);
    const longest = longerMatch(at, bytes, remember(at, bytes), known);
    if (longest > known) {
      if (length >= MIN_MATCH) outdone = max(outdone, at + length);
      length = longest;
      distance = at - matchAt;
      extendBack(entry, at, length, distance);
    }
    store<u32>(entry, length >= MIN_MATCH ? u32((distance << 16) | min(length, MAX_FOUND)) : 0, FOUND);
    at++;
    entry += 4;
    if (length > 0) length--;
  }
  openLength = length;
  openDistance = distance;
}

/** Of `count` places, leaves in FOUND what is part of the cheapest way from each of them to the end of the segment. */
function chooseMatches(count: usize): void {
  store<u32>(count << 2, 0, COSTS);
  let cost: u32 = 0;
  /** Literals from the place on, and how many of them take a byte more for their number. */
  let literals: usize = 0;
  let nextLong = LONG;
  for (let place = count; place > 0;) {
    place--;
    cost++;
    literals++;
    if (literals == nextLong) {
      cost++;
      nextLong += 255;
    }
    const match = load<u32>(place << 2, FOUND);
    const length: usize = match & 0xffff;
    if (length != 0) {
      let matchCost = MATCH_COST + load<u32>(min(place + length, count) << 2, COSTS);
      if (length >= LONG_MATCH) {
        matchCost += 1 + u32(length - LONG_MATCH) / 255;
        // it may be better to end it where it is not yet long
        const shortCost = MATCH_COST + load<u32>(min(place + LONG_MATCH - 1, count) << 2, COSTS);
        if (shortCost < matchCost && length < 2 * LONG_MATCH) {
          matchCost = shortCost;
          store<u16>(place << 2, u16(LONG_MATCH - 1), FOUND);
        }
      }
      if (matchCost <= cost) {
        cost = matchCost;
        literals = 0;
        nextLong = LONG;
      } else {
        store<u32>(place << 2, 0, FOUND);
      }
      if (length >= 2 * LONG_MATCH) place = skipInside(place, match, cost);
    }
    store<u32>(place << 2, cost, COSTS);
  }
}

/** Of a long match the places before cost the same, as long as its length takes as many bytes. Returns the first of them. */
function skipInside(place: usize, match: u32, cost: u32): usize {
  let rest: usize = (usize(match & 0xffff) - LONG_MATCH) % 255;
  let expected = i32x4.add(i32x4.splat(match), i32x4(4, 3, 2, 1));
  while (place >= 4 && rest < 251 && !v128.any_true(v128.xor(v128.load((place - 4) << 2, FOUND), expected))) {
    store<u32>(place << 2, cost, COSTS);
    place -= 4;
    v128.store(place << 2, i32x4.splat(cost), COSTS);
    expected = i32x4.add(expected, i32x4.splat(4));
    rest += 4;
  }
  return place;
}

/** As encodeBlock does it. */
function writeWaiting(): void {
  if (waitingLength == 0) return;
  const literals = waitingAt - done;
  const matched = waitingLength - MIN_MATCH;
  let to = out;
  store<u8>(to, u8((min(literals, LONG) << 4) | min(matched, LONG)));
  to++;
  if (literals >= LONG) to = writeRestOfLength(to, literals - LONG);
  copy(to, done, literals);
  to += literals;
  store<u16>(to, u16(waitingDistance));
  to += 2;
  if (matched >= LONG) to = writeRestOfLength(to, matched - LONG);
  out = to;
  done = waitingAt + waitingLength;
  waitingLength = 0;
}

function addMatch(at: usize, length: usize, distance: usize): void {
  if (waitingLength != 0 && distance == waitingDistance && at == waitingAt + waitingLength) {
    waitingLength += length;
    return;
  }
  writeWaiting();
  waitingAt = at;
  waitingLength = length;
  waitingDistance = distance;
}

/** Takes what was chosen for `count` places. Returns the address after the last match, or after the places. */
function addChosen(start: usize, count: usize): usize {
  let place: usize = 0;
  while (place < count) {
    const match = load<u32>(place << 2, FOUND);
    if (match == 0) {
      place++;
      continue;
    }
    const length: usize = match & 0xffff;
    addMatch(start + place, length, match >> 16);
    place += length;
  }
  return start + place;
}

/**
 * Encodes the `length` bytes at `from`, which lie after the tables, to `to`, where there is room for all of them, one in
 * 255 more, and 16. Looks at `most` places for a longer match, wherever `calm` bytes or fewer of the one before are left.
 * Returns the number of bytes.
 */
export function encodeBlockHigh(from: usize, length: usize, to: usize, most: u32, calm: usize): usize {
  const end = from + length;
  if (length <= LAST_MATCH_BYTES) return writeLastLiterals(to, from, length) - to;

  memory.fill(HEADS, 0, CHAIN - HEADS);
  blockStart = from;
  matchEnd = end - LAST_LITERALS;
  attempts = most;
  settled = calm;
  openLength = 0;
  out = to;
  done = from;
  waitingLength = 0;
  const limit = end - LAST_MATCH_BYTES + 1;
  for (let start = from; start < limit;) {
    const stop = min(start + SEGMENT, limit);
    findMatches(start, stop);
    let count = stop - start;
    if (stop == limit) {
      // the bytes after it count, too
      memory.fill(FOUND + 4 * count, 0, 4 * (matchEnd - stop));
      count = matchEnd - start;
    }
    chooseMatches(count);
    start = addChosen(start, count);
    // the last match chosen may reach into the next segment
    openLength -= min(openLength, start - stop);
    // one as long as this is taken as it is
    if (openLength >= SEGMENT) {
      addMatch(start, openLength, openDistance);
      start += openLength;
      openLength = 0;
    }
    if (start >= limit) break;
    for (let at = max(stop, start - MAX_DISTANCE); at < start; at++) remember(at, load<u32>(at));
  }
  writeWaiting();
  return writeLastLiterals(out, done, end - done) - to;
}
