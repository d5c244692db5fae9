// Decodes lz4 blocks in this module's own memory, and computes xxHash32 there; lz4-encode.ts and lz4-encode-high.ts
// encode them.
// AssemblyScript, compiled to lz4-block.wasm by `npm run build`; opened by ../lz4-module.ts, whose callers own the layout
// of the memory (nothing here allocates, and there is no data segment).
// Formats: lz4's doc/lz4_Block_format.md; xxHash's doc/xxhash_spec.md (XXH32, seed 0). Little-endian.

import { MIN_MATCH } from './lz4-encode';

export { encodeBlock } from './lz4-encode';
export { encodeBlockHigh } from './lz4-encode-high';

/** Copies go in steps of this; the bytes after each buffer, as many, may be overwritten or read, and mean nothing. */
const STEP: usize = 16;

const PRIME1: u32 = 2654435761;
const PRIME2: u32 = 2246822519;
const PRIME3: u32 = 3266489917;
const PRIME4: u32 = 668265263;
const PRIME5: u32 = 374761393;

/** The rest of a length whose first four bits were all set; the address after it is left in `lengthEnd`. */
let lengthEnd: usize = 0;

function restOfLength(from: usize, end: usize): usize {
  let length: usize = 0;
  let at = from;
  while (at < end) {
    const byte: usize = load<u8>(at);
    at++;
    length += byte;
    if (byte != 255) break;
  }
  lengthEnd = at;
  return length;
}

export function copy(to: usize, from: usize, length: usize): void {
  const end = to + length;
  while (to < end) {
    v128.store(to, v128.load(from));
    to += STEP;
    from += STEP;
  }
}

/**
 * Decodes the block at `from` to `to`; matches reach back as far as `lowest`. Returns the number of bytes, or -1 where
 * the block is damaged or longer than `room`.
 */
export function decodeBlock(from: usize, length: usize, to: usize, room: usize, lowest: usize): i32 {
  const inEnd = from + length;
  const outEnd = to + room;
  let at = from;
  let out = to;
  while (at < inEnd) {
    const token: usize = load<u8>(at);
    at++;
    let literals = token >> 4;
    if (literals == 15) {
      literals += restOfLength(at, inEnd);
      at = lengthEnd;
    }
    if (literals > inEnd - at || literals > outEnd - out) return -1;
    copy(out, at, literals);
    at += literals;
    out += literals;
    // the last sequence has no match
    if (at == inEnd) return i32(out - to);

    if (inEnd - at < 2) return -1;
    const distance: usize = load<u16>(at);
    at += 2;
    let matched = token & 15;
    if (matched == 15) {
      matched += restOfLength(at, inEnd);
      at = lengthEnd;
    }
    matched += MIN_MATCH;
    if (distance == 0 || distance > out - lowest || matched > outEnd - out) return -1;
    const match = out - distance;
    if (distance >= STEP) {
      copy(out, match, matched);
    } else if (distance == 1) {
      memory.fill(out, load<u8>(match), matched);
    } else {
      for (let index: usize = 0; index < matched; index++) store<u8>(out + index, load<u8>(match + index));
    }
    out += matched;
  }
  return -1;
}

/** The four lanes of the hash that runs, and how many bytes they have seen. */
let lanes: v128 = i32x4.splat(0);
let hashedBytes: u64 = 0;

export function beginHash(): void {
  lanes = i32x4(PRIME1 + PRIME2, PRIME2, 0, 0 - PRIME1);
  hashedBytes = 0;
}

/** Adds whole stripes of 16 bytes only; returns how many bytes at the end are left over. */
export function addToHash(from: usize, length: usize): usize {
  const end = from + (length & ~15);
  for (let at = from; at < end; at += 16) {
    const sum = i32x4.add(lanes, i32x4.mul(v128.load(at), i32x4.splat(PRIME2)));
    lanes = i32x4.mul(v128.or(i32x4.shl(sum, 13), i32x4.shr_u(sum, 19)), i32x4.splat(PRIME1));
  }
  hashedBytes += u64(end - from);
  return length & 15;
}

/** The hash with the last bytes, fewer than 16. */
export function endHash(from: usize, length: usize): u32 {
  let hash: u32 =
    hashedBytes == 0
      ? PRIME5
      : rotl<u32>(i32x4.extract_lane(lanes, 0), 1) +
        rotl<u32>(i32x4.extract_lane(lanes, 1), 7) +
        rotl<u32>(i32x4.extract_lane(lanes, 2), 12) +
        rotl<u32>(i32x4.extract_lane(lanes, 3), 18);
  hash += u32(hashedBytes + length);
  let at = from;
  const end = from + length;
  for (; at + 4 <= end; at += 4) hash = rotl<u32>(hash + load<u32>(at) * PRIME3, 17) * PRIME4;
  for (; at < end; at++) hash = rotl<u32>(hash + u32(load<u8>(at)) * PRIME5, 11) * PRIME1;
  hash ^= hash >> 15;
  hash *= PRIME2;
  hash ^= hash >> 13;
  hash *= PRIME3;
  return hash ^ (hash >> 16);
}

/** The hash of some bytes by themselves; the one that runs goes on afterwards. */
export function hashOf(from: usize, length: usize): u32 {
  const runningLanes = lanes;
  const runningBytes = hashedBytes;
  beginHash();
  const left = addToHash(from, length);
  const hash = endHash(from + length - left, left);
  lanes = runningLanes;
  hashedBytes = runningBytes;
  return hash;
}
