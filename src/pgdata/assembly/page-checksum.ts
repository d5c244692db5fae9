// Finds the pages with a wrong data checksum in a run of pages that lies in this module's own memory.
// AssemblyScript, compiled to page-checksum.wasm by `npm run build`; called only by ../page-checksum.ts, which owns
// the layout of the memory (nothing here allocates, and there is no data segment).
// Twin of PostgreSQL's src/include/storage/checksum_impl.h (the checksum) and of verify_page_checksum() in
// src/backend/backup/basebackup.c (which pages are checked). Pages are read as little-endian.

const PAGE_BYTES: usize = 8192;
/** One row of the page seen as 32 columns of uint32: eight vectors of four. */
const ROW_BYTES: usize = 128;

// PageHeaderData, src/include/storage/bufpage.h.
const PD_LSN_XLOGID: usize = 0;
const PD_LSN_XRECOFF: usize = 4;
const PD_CHECKSUM: usize = 8;
const PD_UPPER: usize = 14;

/** The bytes of one finding: block uint32, stored checksum uint16, calculated checksum uint16. */
const FINDING_BYTES: usize = 8;

/** CHECKSUM_COMP: one round of the hash over four columns. */
function mix(sum: v128, value: v128): v128 {
  const mixed = v128.xor(sum, value);
  return v128.xor(i32x4.mul(mixed, i32x4.splat(16777619)), i32x4.shr_u(mixed, 17));
}

/** pg_checksum_page. The stored checksum counts as zero, by masking it out of the first row. */
function pageChecksum(page: usize, block: u32): u32 {
  // checksumBaseOffsets, with the first row already mixed in.
  let s0 = mix(
    i32x4(0x5b1f36e9, 0xb8525960, 0x02ab50aa, 0x1de66d2a),
    v128.and(v128.load(page), i32x4(-1, -1, 0xffff0000, -1)),
  );
  let s1 = mix(i32x4(0x79ff467a, 0x9bb9f8a3, 0x217e7cd2, 0x83e13d2c), v128.load(page, 16));
  let s2 = mix(i32x4(0xf8d4474f, 0xe39eb970, 0x42c6ae16, 0x993216fa), v128.load(page, 32));
  let s3 = mix(i32x4(0x7b093b5d, 0x98daff3c, 0xf718902a, 0x0b1c9cdb), v128.load(page, 48));
  let s4 = mix(i32x4(0xe58f764b, 0x187636bc, 0x5d7b3bb1, 0xe73de7de), v128.load(page, 64));
  let s5 = mix(i32x4(0x92bec979, 0xcca6c0b2, 0x304a0979, 0x85aa43d4), v128.load(page, 80));
  let s6 = mix(i32x4(0x783125bb, 0x6ca8eaa2, 0xe407eac6, 0x4b5cfc3e), v128.load(page, 96));
  let s7 = mix(i32x4(0x9fbf8c76, 0x15ca20be, 0xf2ca9fd3, 0x959bd756), v128.load(page, 112));

  for (let row = page + ROW_BYTES, end = page + PAGE_BYTES; row < end; row += ROW_BYTES) {
    s0 = mix(s0, v128.load(row));
    s1 = mix(s1, v128.load(row, 16));
    s2 = mix(s2, v128.load(row, 32));
    s3 = mix(s3, v128.load(row, 48));
    s4 = mix(s4, v128.load(row, 64));
    s5 = mix(s5, v128.load(row, 80));
    s6 = mix(s6, v128.load(row, 96));
    s7 = mix(s7, v128.load(row, 112));
  }

  const zero = i32x4.splat(0);
  s0 = mix(mix(s0, zero), zero);
  s1 = mix(mix(s1, zero), zero);
  s2 = mix(mix(s2, zero), zero);
  s3 = mix(mix(s3, zero), zero);
  s4 = mix(mix(s4, zero), zero);
  s5 = mix(mix(s5, zero), zero);
  s6 = mix(mix(s6, zero), zero);
  s7 = mix(mix(s7, zero), zero);

  const folded = v128.xor(
    v128.xor(v128.xor(s0, s1), v128.xor(s2, s3)),
    v128.xor(v128.xor(s4, s5), v128.xor(s6, s7)),
  );
  const sum: u32 =
    i32x4.extract_lane(folded, 0) ^
    i32x4.extract_lane(folded, 1) ^
    i32x4.extract_lane(folded, 2) ^
    i32x4.extract_lane(folded, 3);
  return ((sum ^ block) % 65535) + 1;
}

/**
 * Checks `pageCount` pages from address `firstPage` on, the first being block `firstBlock` of its relation, and writes
 * a finding for each bad one, in block order, from address `findings` on. Returns how many there are. New pages
 * (pd_upper 0) and pages whose LSN is not before `startLsn` are passed over.
 */
export function findBadPages(
  firstPage: usize,
  pageCount: u32,
  firstBlock: u32,
  startLsn: u64,
  findings: usize,
): u32 {
  let found = findings;
  for (let index: u32 = 0; index < pageCount; index++) {
    const page = firstPage + usize(index) * PAGE_BYTES;
    if (load<u16>(page, PD_UPPER) == 0) continue;
    const lsn = (u64(load<u32>(page, PD_LSN_XLOGID)) << 32) | load<u32>(page, PD_LSN_XRECOFF);
    if (lsn >= startLsn) continue;

    const block = firstBlock + index;
    const stored: u32 = load<u16>(page, PD_CHECKSUM);
    const calculated = pageChecksum(page, block);
    if (stored == calculated) continue;
    store<u32>(found, block);
    store<u16>(found, stored, 4);
    store<u16>(found, calculated, 6);
    found += FINDING_BYTES;
  }
  return u32((found - findings) / FINDING_BYTES);
}
