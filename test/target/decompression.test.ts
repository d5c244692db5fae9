/* Compressed by gzip, lz4 and zstd themselves, and by the libraries where these are not installed. */
import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { Readable } from 'node:stream';
import { describe, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { compress as compressZstd } from '@mongodb-js/zstd';
import { decompress, type ArchiveCompression } from '../../src/target/decompression.js';
import { temporaryDirectory, type TestScope } from '../support/cleanup.js';
import { SeededRandom } from '../support/seeded-random.js';
import { run, tool } from '../support/tools.js';

/** Random bytes, text, runs and repetitions near and far, 3 MB: every kind of block and of match. */
function mixedContent(): Buffer {
  const random = new SeededRandom(4);
  const words = Array.from({ length: 50 }, () => random.bytes(3 + random.below(40)));
  const parts: Buffer[] = [random.bytes(150_000), Buffer.alloc(500_000)];
  for (let period = 1; period <= 20; period += 1) {
    parts.push(Buffer.alloc(1000 + period, random.bytes(period)));
  }
  for (let bytes = 0; bytes < 2_000_000;) {
    const word = random.pick(words);
    parts.push(word);
    bytes += word.length;
  }
  return Buffer.concat(parts);
}

const CONTENT = mixedContent();

async function contentOf(
  compressed: Buffer,
  compression: ArchiveCompression,
  chunkBytes: number,
): Promise<Buffer> {
  const chunks: Buffer[] = [];
  const source = Readable.from(cut(compressed, chunkBytes)) as AsyncIterable<Buffer>;
  for await (const chunk of decompress(source, compression, 'base.tar.x')) chunks.push(Buffer.from(chunk));
  return Buffer.concat(chunks);
}

function* cut(bytes: Buffer, chunkBytes: number): Generator<Buffer> {
  for (let at = 0; at < bytes.length; at += chunkBytes) yield bytes.subarray(at, at + chunkBytes);
}

interface Way {
  readonly program: 'gzip' | 'lz4' | 'zstd';
  readonly args: readonly string[];
}

const WAYS: readonly Way[] = [
  { program: 'gzip', args: ['-1'] },
  { program: 'gzip', args: ['-9'] },
  // independent blocks of 4 MiB; linked ones of 64 KiB as pg_basebackup writes them; with all the checksums; hc
  { program: 'lz4', args: ['-1'] },
  { program: 'lz4', args: ['-BD', '-B4'] },
  { program: 'lz4', args: ['-BD', '-B5', '-BX', '--content-size'] },
  { program: 'lz4', args: ['-12', '-B6', '--no-frame-crc'] },
  { program: 'zstd', args: ['-3'] },
  { program: 'zstd', args: ['-19', '--no-check'] },
  { program: 'zstd', args: ['-1', '--no-content-size'] },
];

for (const { program, args } of WAYS) {
  test(`what ${program} ${args.join(' ')} compressed comes out as it was`, async (t) => {
    if (tool(program) === undefined) return t.skip(`${program} is not installed`);
    const directory = await temporaryDirectory(t);
    const plain = path.join(directory, 'plain');
    const packed = path.join(directory, 'packed');
    await writeFile(plain, CONTENT);
    const made = await run('/bin/sh', ['-c', `"$@" < ${plain} > ${packed}`, 'sh', program, ...args, '-c']);
    assert.equal(made.status, 0, made.stderr);
    const compressed = await readFile(packed);
    assert.ok(compressed.length < CONTENT.length);
    for (const chunkBytes of [compressed.length, 100_003]) {
      assert.ok(
        (await contentOf(compressed, program, chunkBytes)).equals(CONTENT),
        `chunks of ${chunkBytes}`,
      );
    }
    // several in a row
    const twice = await contentOf(Buffer.concat([compressed, compressed]), program, 65_536);
    assert.ok(twice.equals(Buffer.concat([CONTENT, CONTENT])));
  });
}

test('small pieces, nothing at all, and frames to be skipped', async () => {
  const small = CONTENT.subarray(0, 1000);
  const frames = await Promise.all(
    [0, 1, 2].map((index) => compressZstd(CONTENT.subarray(index, index + 300_000))),
  );
  const skipped = Buffer.from('502a4d1803000000aabbcc', 'hex');
  const expected = Buffer.concat([0, 1, 2].map((index) => CONTENT.subarray(index, index + 300_000)));
  assert.ok((await contentOf(Buffer.concat([skipped, ...frames, skipped]), 'zstd', 4096)).equals(expected));
  assert.ok((await contentOf(gzipSync(small), 'gzip', 1)).equals(small));
  assert.ok((await contentOf(await compressZstd(small), 'zstd', 1)).equals(small));
  assert.equal((await contentOf(gzipSync(Buffer.alloc(0)), 'gzip', 7)).length, 0);
  // what lz4 makes of nothing, with a checksum and without
  const empty = Buffer.from('04224d186040820000000004224d186440a700000000055dcc02', 'hex');
  assert.equal((await contentOf(Buffer.concat([empty, skipped]), 'lz4', 3)).length, 0);
});

describe('damage is noticed', () => {
  const sample = CONTENT.subarray(600_000, 1_400_000);
  const packers: readonly (readonly [ArchiveCompression, (t: TestScope) => Promise<Buffer | undefined>])[] = [
    ['gzip', () => Promise.resolve(gzipSync(sample))],
    ['zstd', () => compressZstd(sample)],
    ['lz4', (t) => packedByLz4(t, sample)],
  ];

  for (const [compression, pack] of packers) {
    test(`in ${compression}`, async (t) => {
      const packed = await pack(t);
      if (packed === undefined) return t.skip('lz4 is not installed');
      const expected = { code: 'file_damaged', message: /^could not decompress archive "base\.tar\.x": / };
      const fails = async (damaged: Buffer, what: string): Promise<void> => {
        await assert.rejects(contentOf(damaged, compression, 50_000), expected, what);
      };
      for (const kept of [1, 5, 20, packed.length >> 1, packed.length - 1]) {
        await fails(packed.subarray(0, kept), `cut after ${kept}`);
      }
      await fails(Buffer.concat([packed, Buffer.from('garbage after the end')]), 'garbage');
      await fails(Buffer.from('not compressed at all'), 'no frame');
      const random = new SeededRandom(9);
      for (let round = 0; round < 40; round += 1) {
        const damaged = Buffer.from(packed);
        const at = random.below(packed.length);
        damaged[at] = (damaged[at] ?? 0) ^ (1 << random.below(8));
        const got = await contentOf(damaged, compression, 50_000).catch((error: unknown) => {
          assert.match((error as Error).message, expected.message);
          return undefined;
        });
        // without a checksum in the format, the manifest's is what tells; there is no other way for it to end
        if (got !== undefined && compression === 'lz4') assert.ok(got.equals(sample), `bit at ${at}`);
      }
    });
  }
});

/** Linked blocks with checksums; undefined where lz4 is not installed. */
async function packedByLz4(t: TestScope, content: Buffer): Promise<Buffer | undefined> {
  const program = tool('lz4');
  if (program === undefined) return undefined;
  const plain = path.join(await temporaryDirectory(t), 'plain');
  await writeFile(plain, content);
  const { status, stderr } = await run(program, ['-q', '-BX', '-BD', '-B4', plain, `${plain}.lz4`]);
  assert.equal(status, 0, stderr);
  return await readFile(`${plain}.lz4`);
}
