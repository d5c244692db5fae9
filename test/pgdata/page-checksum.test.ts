/* The WebAssembly check against a scalar one written here, and the rules that decide which pages are checked. */
import assert from 'node:assert/strict';
import { closeSync, mkdtempSync, openSync, readSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';

import { PAGE_BYTES } from '../../src/limits.js';
import type { Lsn } from '../../src/lsn.js';
import { parseLsn } from '../../src/lsn.js';
import { PageMemory } from '../../src/pgdata/page-checksum.js';

const BASE_OFFSETS = [
  0x5b1f36e9, 0xb8525960, 0x02ab50aa, 0x1de66d2a, 0x79ff467a, 0x9bb9f8a3, 0x217e7cd2, 0x83e13d2c, 0xf8d4474f,
  0xe39eb970, 0x42c6ae16, 0x993216fa, 0x7b093b5d, 0x98daff3c, 0xf718902a, 0x0b1c9cdb, 0xe58f764b, 0x187636bc,
  0x5d7b3bb1, 0xe73de7de, 0x92bec979, 0xcca6c0b2, 0x304a0979, 0x85aa43d4, 0x783125bb, 0x6ca8eaa2, 0xe407eac6,
  0x4b5cfc3e, 0x9fbf8c76, 0x15ca20be, 0xf2ca9fd3, 0x959bd756,
];

/** pg_checksum_page as checksum_impl.h writes it, one column at a time. */
function scalarChecksum(page: Buffer, block: number): number {
  const copy = Buffer.from(page);
  copy.writeUInt16LE(0, 8);
  let folded = 0;
  for (const [column, offset] of BASE_OFFSETS.entries()) {
    let sum = offset | 0;
    for (let row = 0; row < 66; row++) {
      const value = row < 64 ? copy.readInt32LE(row * 128 + column * 4) : 0;
      const mixed = sum ^ value;
      sum = Math.imul(mixed, 16777619) ^ (mixed >>> 17);
    }
    folded ^= sum;
  }
  return (((folded ^ block) >>> 0) % 65535) + 1;
}

/** mulberry32: the same random pages on every run. */
function randomBytes(length: number, seed: number): Buffer {
  let state = seed;
  return Buffer.from(
    Array.from({ length }, () => {
      state = (state + 0x6d2b79f5) | 0;
      let value = Math.imul(state ^ (state >>> 15), state | 1);
      value ^= value + Math.imul(value ^ (value >>> 7), value | 61);
      return (value ^ (value >>> 14)) & 0xff;
    }),
  );
}

function lsn(text: string): Lsn {
  const parsed = parseLsn(text);
  assert.ok(parsed !== undefined);
  return parsed;
}

const EVERY_LSN = lsn('FFFFFFFF/FFFFFFFF');

function setPageLsn(page: Buffer, position: Lsn): void {
  page.writeUInt32LE(Number(position >> 32n), 0);
  page.writeUInt32LE(Number(position & 0xffffffffn), 4);
}

/** A page of random bytes with an LSN and the checksum that belongs to it as `block`. */
function goodPage(block: number, position: Lsn = lsn('0/1')): Buffer {
  const page = randomBytes(PAGE_BYTES, block + 1);
  setPageLsn(page, position);
  page.writeUInt16LE(8192, 14);
  page.writeUInt16LE(scalarChecksum(page, block), 8);
  return page;
}

function pageOf(view: Buffer, index: number): Buffer {
  return view.subarray(index * PAGE_BYTES, (index + 1) * PAGE_BYTES);
}

/** A memory of one buffer that holds these pages. */
function memoryWith(...pages: Buffer[]): { memory: PageMemory; view: Buffer } {
  const memory = PageMemory.create({ bufferCount: 1, bufferBytes: pages.length * PAGE_BYTES });
  const view = memory.buffer(0);
  Buffer.concat(pages).copy(view);
  return { memory, view };
}

test('agrees with a scalar calculation on random pages at block numbers up to the largest', () => {
  for (const firstBlock of [0, 1, 65_535, 131_072, 2_147_483_644, 4_294_967_290]) {
    const blocks = Array.from({ length: 5 }, (_, index) => firstBlock + index);
    const { memory, view } = memoryWith(...blocks.map((block) => goodPage(block)));
    assert.deepEqual(memory.findBadPages(view, { firstBlock, startLsn: EVERY_LSN }), []);

    for (const [index, block] of blocks.entries()) {
      const page = pageOf(view, index);
      const expected = page.readUInt16LE(8);
      randomBytes(200, block).copy(page, 4000);
      const run = { firstBlock: block, startLsn: EVERY_LSN };
      const calculated = scalarChecksum(page, block);
      assert.deepEqual(memory.findBadPages(page, run), [{ block, expected, calculated }]);
    }
  }
});

test('a change of any word of a page, and of the stored checksum, is found', () => {
  const { memory, view } = memoryWith(goodPage(7));
  const run = { firstBlock: 7, startLsn: EVERY_LSN };
  for (let offset = 0; offset < PAGE_BYTES; offset += 4) {
    view.writeUInt8(view.readUInt8(offset) ^ 0x10, offset);
    assert.equal(memory.findBadPages(view, run).length, 1, `byte ${offset}`);
    view.writeUInt8(view.readUInt8(offset) ^ 0x10, offset);
  }
  assert.deepEqual(memory.findBadPages(view, run), []);
});

test('names exactly the bad pages, in order, and leaves the bytes as they are', () => {
  const { memory, view } = memoryWith(...Array.from({ length: 64 }, (_, block) => goodPage(block)));
  const damaged = [0, 13, 14, 63];
  for (const block of damaged)
    view.writeUInt8(view.readUInt8(block * PAGE_BYTES + 99) ^ 1, block * PAGE_BYTES + 99);
  const before = Buffer.from(view);

  const found = memory.findBadPages(view, { firstBlock: 0, startLsn: EVERY_LSN });

  assert.deepEqual(
    found.map(({ block }) => block),
    damaged,
  );
  assert.deepEqual(view, before);
});

test('holds a finding for every page when all are bad', () => {
  const memory = PageMemory.create({ bufferCount: 2, bufferBytes: 128 * PAGE_BYTES });
  for (const buffer of memory.buffers) buffer.fill(0x55);
  const everything = Buffer.from(memory.buffer(0).buffer, 0, 256 * PAGE_BYTES);
  const found = memory.findBadPages(everything, { firstBlock: 1000, startLsn: EVERY_LSN });
  assert.deepEqual(
    found.map(({ block, expected }) => ({ block, expected })),
    Array.from({ length: 256 }, (_, index) => ({ block: 1000 + index, expected: 0x5555 })),
  );
  assert.ok(memory.buffers.every((buffer) => buffer.every((byte) => byte === 0x55)));
});

test('a page that is right as one block is wrong as any other', () => {
  const { memory, view } = memoryWith(goodPage(3));
  for (const firstBlock of [0, 2, 4, 131_072 + 3]) {
    assert.equal(memory.findBadPages(view, { firstBlock, startLsn: EVERY_LSN }).length, 1);
  }
});

const LSN_CASES = [
  { page: '0/FFFFFFFF', start: '1/0', checked: true },
  { page: '1/0', start: '1/0', checked: false },
  { page: '1/0', start: '0/FFFFFFFF', checked: false },
  { page: '1/0', start: '1/1', checked: true },
  { page: '7FFFFFFF/0', start: '80000000/0', checked: true },
  { page: '80000000/0', start: '7FFFFFFF/FFFFFFFF', checked: false },
  { page: '0/80000000', start: '0/7FFFFFFF', checked: false },
  { page: 'FFFFFFFF/FFFFFFFE', start: 'FFFFFFFF/FFFFFFFF', checked: true },
  { page: '0/0', start: '0/0', checked: false },
];

for (const { page, start, checked } of LSN_CASES) {
  test(`a bad page with LSN ${page} is ${checked ? 'found' : 'passed over'} in a backup from ${start}`, () => {
    const bad = goodPage(0, lsn(page));
    bad.writeUInt8(bad.readUInt8(500) ^ 1, 500);
    const { memory, view } = memoryWith(bad);
    const found = memory.findBadPages(view, { firstBlock: 0, startLsn: lsn(start) });
    assert.equal(found.length, checked ? 1 : 0);
  });
}

test('new pages are passed over: all zero, or pd_upper 0 with anything else on them', () => {
  const almostNew = randomBytes(PAGE_BYTES, 5);
  almostNew.writeUInt16LE(0, 14);
  const { memory, view } = memoryWith(Buffer.alloc(PAGE_BYTES), almostNew);
  assert.deepEqual(memory.findBadPages(view, { firstBlock: 0, startLsn: EVERY_LSN }), []);
});

test('a view may begin at any byte, and may be empty', () => {
  const memory = PageMemory.create({ bufferCount: 1, bufferBytes: 3 * PAGE_BYTES });
  const buffer = memory.buffer(0);
  const run = { firstBlock: 20, startLsn: EVERY_LSN };
  for (const offset of [1, 5, 512, PAGE_BYTES - 1]) {
    const view = buffer.subarray(offset, offset + 2 * PAGE_BYTES);
    Buffer.concat([goodPage(20), goodPage(21)]).copy(view);
    assert.deepEqual(memory.findBadPages(view, run), []);
    view.writeUInt16LE(view.readUInt16LE(PAGE_BYTES + 8) ^ 1, PAGE_BYTES + 8);
    assert.deepEqual(
      memory.findBadPages(view, run).map(({ block }) => block),
      [21],
    );
  }
  assert.deepEqual(memory.findBadPages(buffer.subarray(0, 0), run), []);
});

test('files are read into the buffers themselves', () => {
  const directory = mkdtempSync(join(tmpdir(), 'pgconvoy-page-memory-'));
  try {
    const path = join(directory, 'pages');
    writeFileSync(path, Buffer.concat([goodPage(0), goodPage(99)]));
    const memory = PageMemory.create({ bufferCount: 3, bufferBytes: 2 * PAGE_BYTES });
    const file = openSync(path, 'r');
    assert.equal(readSync(file, memory.buffer(1)), 2 * PAGE_BYTES);
    closeSync(file);
    const found = memory.findBadPages(memory.buffer(1), { firstBlock: 0, startLsn: EVERY_LSN });
    assert.deepEqual(found, [
      { block: 1, expected: goodPage(99).readUInt16LE(8), calculated: scalarChecksum(goodPage(99), 1) },
    ]);
    assert.ok(memory.buffer(0).equals(Buffer.alloc(2 * PAGE_BYTES)));
    assert.ok(memory.buffer(2).equals(Buffer.alloc(2 * PAGE_BYTES)));
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test('the buffers are equal, begin at whole pages, do not overlap and stay attached', () => {
  const memory = PageMemory.create({ bufferCount: 4, bufferBytes: 3 * PAGE_BYTES });
  assert.equal(memory.buffers.length, 4);
  for (const [index, buffer] of memory.buffers.entries()) {
    assert.equal(buffer.byteLength, 3 * PAGE_BYTES);
    assert.equal(buffer.byteOffset, index * 3 * PAGE_BYTES);
    assert.equal(memory.buffer(index), buffer);
  }
  memory.findBadPages(memory.buffer(3).fill(1), { firstBlock: 0, startLsn: EVERY_LSN });
  assert.ok(memory.buffers.every((buffer) => buffer.byteLength === 3 * PAGE_BYTES));
  assert.throws(() => memory.buffer(4), RangeError);
});

test('two memories share nothing', () => {
  const first = memoryWith(goodPage(0));
  const second = memoryWith(goodPage(1));
  const run = { firstBlock: 0, startLsn: EVERY_LSN };
  assert.deepEqual(first.memory.findBadPages(first.view, run), []);
  assert.equal(second.memory.findBadPages(second.view, run).length, 1);
  assert.throws(() => first.memory.findBadPages(second.view, run), RangeError);
});

test('refuses pages that are not its own, part pages and senseless sizes', () => {
  const memory = PageMemory.create({ bufferCount: 1, bufferBytes: PAGE_BYTES });
  const run = { firstBlock: 0, startLsn: EVERY_LSN };
  const behindTheBuffers = Buffer.from(memory.buffer(0).buffer, PAGE_BYTES, PAGE_BYTES);
  assert.throws(() => memory.findBadPages(Buffer.alloc(PAGE_BYTES), run), RangeError);
  assert.throws(() => memory.findBadPages(behindTheBuffers, run), RangeError);
  assert.throws(() => memory.findBadPages(memory.buffer(0).subarray(1), run), RangeError);
  for (const size of [
    { bufferCount: 0, bufferBytes: PAGE_BYTES },
    { bufferCount: 1.5, bufferBytes: PAGE_BYTES },
    { bufferCount: 1, bufferBytes: 0 },
    { bufferCount: 1, bufferBytes: 1000 },
    { bufferCount: 1, bufferBytes: 2 ** 32 },
    { bufferCount: 2 ** 40, bufferBytes: PAGE_BYTES },
  ]) {
    assert.throws(() => PageMemory.create(size), RangeError, JSON.stringify(size));
  }
});
