/* Judged by another decoder, and by lz4 itself where it is installed. */
import assert from 'node:assert/strict';
import { stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { uncompressSync } from 'lz4-napi';
import { BLOCK_BYTES } from '../../src/target/compression/block-compressor.js';
import { Lz4Compressor } from '../../src/target/compression/lz4.js';
import { temporaryDirectory } from '../support/cleanup.js';
import { SeededRandom } from '../support/seeded-random.js';
import { run, tool } from '../support/tools.js';

const HEADER_BYTES = 7;
const STORED = 0x8000_0000;
/** 1 is the fast mode, 3 to 12 the high compression mode. */
const LEVELS = [1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12] as const;
type Level = (typeof LEVELS)[number];
const compressors = new Map(LEVELS.map((level) => [level, new Lz4Compressor(level)]));

function compressorOf(level: Level): Lz4Compressor {
  const compressor = compressors.get(level);
  assert.ok(compressor !== undefined);
  return compressor;
}

function frameOf(content: Buffer, level: Level): Buffer {
  const compressor = compressorOf(level);
  const block = compressor.blocks.take();
  block.set(content);
  const frame = Buffer.concat(compressor.compress(block.subarray(0, content.length)));
  compressor.blocks.giveBack(block);
  return frame;
}

/** The block of a frame of one block; undefined where it is stored as it is. */
function blockOf(frame: Buffer): Buffer | undefined {
  assert.equal(frame.subarray(0, HEADER_BYTES).toString('hex'), '04224d18606051');
  const size = frame.readUInt32LE(HEADER_BYTES);
  const block = frame.subarray(HEADER_BYTES + 4, -4);
  assert.equal(block.length, size % STORED);
  assert.equal(frame.readUInt32LE(frame.length - 4), 0);
  return size < STORED ? block : undefined;
}

function decoded(frame: Buffer, bytes: number): Buffer {
  const block = blockOf(frame);
  if (block === undefined) return frame.subarray(HEADER_BYTES + 4, -4);
  const size = Buffer.alloc(4);
  size.writeUInt32LE(bytes);
  return uncompressSync(Buffer.concat([size, block]));
}

/** A match: where it begins in what is decoded, and how far back it reaches. */
interface Match {
  readonly at: number;
  readonly distance: number;
}

/** Reads the sequences of a block, as doc/lz4_Block_format.md has them. */
function readSequences(block: Buffer): { matches: Match[]; lastLiterals: number } {
  let at = 0;
  const length = (half: number): number => {
    let whole = half;
    for (let byte = half === 15 ? 255 : 0; byte === 255; whole += byte) byte = block[at++] ?? NaN;
    return whole;
  };
  const matches: Match[] = [];
  for (let place = 0; ;) {
    const token = block.readUInt8(at++);
    const literals = length(token >> 4);
    at += literals;
    place += literals;
    if (at === block.length) return { matches, lastLiterals: literals };
    matches.push({ at: place, distance: block.readUInt16LE(at) });
    at += 2;
    place += length(token & 15) + 4;
  }
}

/** The rules for the end of a block, without which fast decoders read past it. */
function assertRules(frame: Buffer, bytes: number): void {
  const block = blockOf(frame);
  if (block === undefined) return;
  const { matches, lastLiterals } = readSequences(block);
  for (const { at, distance } of matches) {
    assert.ok(distance > 0 && distance <= at, `a match at ${at} reaches back ${distance}`);
    assert.ok(at <= bytes - 12, `a match at ${at} of ${bytes}`);
  }
  if (matches.length > 0) assert.ok(lastLiterals >= 5, `${lastLiterals} literals at the end`);
}

/** At every level. */
function assertComesBack(content: Buffer, what: string): void {
  for (const level of LEVELS) {
    const frame = frameOf(content, level);
    assert.ok(decoded(frame, content.length).equals(content), `${what}, level ${level}`);
    assert.ok(frame.length <= content.length + HEADER_BYTES + 8, `${what}: ${frame.length} bytes`);
    assertRules(frame, content.length);
  }
}

/** Words of a few bytes, some over and over: matches of every length and distance. */
function wordy(random: SeededRandom, bytes: number, words: number): Buffer {
  const all = Array.from({ length: words }, () => random.bytes(1 + random.below(40)));
  const content = Buffer.alloc(bytes);
  for (let at = 0; at < bytes;) at += random.pick(all).copy(content, at);
  return content;
}

test('blocks of every small size come back', () => {
  const random = new SeededRandom(21);
  for (let bytes = 1; bytes <= 400; bytes += 1) {
    assertComesBack(Buffer.alloc(bytes), `${bytes} zeros`);
    assertComesBack(random.bytes(bytes), `${bytes} random bytes`);
    assertComesBack(Buffer.alloc(bytes, 'ab'), `${bytes} bytes of two`);
    assertComesBack(wordy(random, bytes, 3), `${bytes} bytes of words`);
  }
});

test('a match that begins too close to the end is not taken', () => {
  const words = new SeededRandom(27).bytes(30);
  for (let again = 4; again <= 12; again += 1) {
    const content = Buffer.concat([words, words.subarray(0, again), Buffer.from('12345')]);
    assertComesBack(content, `${again} bytes again, and five more`);
    // stored as it is where there is no match at all
    assert.equal(blockOf(frameOf(content, 9)) !== undefined, again >= 7, `${again} bytes`);
  }
});

test('runs of every period, and lengths around each that takes one byte more', () => {
  const random = new SeededRandom(22);
  for (const period of [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 255, 4096, 65_534, 65_535, 65_536, 65_537]) {
    const piece = random.bytes(period);
    assertComesBack(Buffer.alloc(3 * period + 100, piece), `a period of ${period}`);
  }
  for (const bytes of [14, 15, 16, 18, 19, 20, 269, 270, 271, 524, 525, 526]) {
    const literals = random.bytes(bytes);
    assertComesBack(Buffer.concat([Buffer.alloc(bytes), literals, Buffer.alloc(bytes)]), `${bytes} of each`);
  }
});

test('blocks of many kinds of content come back', () => {
  const random = new SeededRandom(23);
  for (let round = 0; round < 60; round += 1) {
    const bytes = 1 + random.below(random.pick([100, 5000, 70_000, 200_000]));
    const words = 1 + random.below(random.pick([2, 20, 300]));
    assertComesBack(wordy(random, bytes, words), `round ${round}: ${bytes} bytes of ${words} words`);
  }
  for (const bytes of [BLOCK_BYTES, BLOCK_BYTES - 1, BLOCK_BYTES - 13]) {
    assertComesBack(wordy(random, bytes, 200), `${bytes} bytes of words`);
    assertComesBack(Buffer.alloc(bytes), `${bytes} zeros`);
  }
});

test('what does not compress is stored as it is', () => {
  for (const bytes of [1, 12, 13, 5000, BLOCK_BYTES]) {
    const content = Buffer.concat(
      Array.from({ length: Math.ceil(bytes / 65_536) }, (_, seed) => new SeededRandom(seed).bytes(65_536)),
    ).subarray(0, bytes);
    for (const level of LEVELS) {
      const frame = frameOf(content, level);
      assert.equal(blockOf(frame), undefined);
      assert.ok(decoded(frame, bytes).equals(content));
    }
  }
});

test('a higher level does not make more bytes', () => {
  for (const words of [30, 1000, 10_000]) {
    const content = wordy(new SeededRandom(26), 400_000, words);
    const sizes = LEVELS.map((level) => frameOf(content, level).length);
    for (const [index, size] of sizes.slice(1).entries()) {
      assert.ok(size < (sizes[index] ?? 0) * 1.001, `of ${words} words: ${sizes.join(', ')}`);
    }
    assert.ok((sizes.at(-1) ?? 0) < (sizes[1] ?? 0) && (sizes[1] ?? 0) < (sizes[0] ?? 0), sizes.join(', '));
  }
});

test('frames stay as they are while other blocks are compressed', () => {
  const random = new SeededRandom(24);
  const contents = Array.from({ length: 4 }, () => wordy(random, 50_000, 20));
  const compressor = compressorOf(9);
  const frames = contents.map((content) => {
    const block = compressor.blocks.take();
    block.set(content);
    return compressor.compress(block.subarray(0, content.length));
  });
  for (const [index, pieces] of frames.entries()) {
    assert.ok(decoded(Buffer.concat(pieces), 50_000).equals(contents[index] ?? Buffer.alloc(0)));
  }
});

test('lz4 reads a row of frames, and does not make fewer bytes of it', async (t) => {
  const program = tool('lz4');
  if (program === undefined) return t.skip('lz4 is not installed');
  const random = new SeededRandom(25);
  const contents = [
    wordy(random, BLOCK_BYTES, 500),
    random.bytes(3000),
    Buffer.alloc(700_000),
    wordy(random, 13, 1),
  ];
  const packed = path.join(await temporaryDirectory(t), 'packed.lz4');
  const frames = LEVELS.flatMap((level) => contents.map((content) => frameOf(content, level)));
  await writeFile(packed, Buffer.concat(frames));
  const plain = packed.slice(0, -'.lz4'.length);
  const unpacked = await run(program, ['-q', '-d', packed, plain]);
  assert.equal(unpacked.status, 0, unpacked.stderr);
  await writeFile(`${plain}.expected`, Buffer.concat(LEVELS.flatMap(() => contents)));
  assert.equal((await run('cmp', [plain, `${plain}.expected`])).status, 0);

  await writeFile(plain, contents[0] ?? '');
  for (const level of [1, 3, 6, 9, 12] as const) {
    const made = await run(program, ['-q', '-f', `-${level}`, '-B6', '--no-frame-crc', plain, packed]);
    assert.equal(made.status, 0, made.stderr);
    const { size } = await stat(packed);
    const ours = frameOf(contents[0] ?? Buffer.alloc(0), level).length;
    assert.ok(ours < size * 1.01, `level ${level}: ${ours} bytes, lz4 makes ${size}`);
  }
});
