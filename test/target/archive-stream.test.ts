import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { Readable } from 'node:stream';
import { test } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { ArchiveStream } from '../../src/target/archive-stream.js';
import { openCompressor } from '../../src/target/compression/open-compressor.js';
import { decompress } from '../../src/target/decompression.js';
import { SeededRandom } from '../support/seeded-random.js';
import type { CompressionMethod } from '../../src/target/compression/compression.js';

const MiB = 1024 * 1024;

/** Compresses one block. @returns its bytes */
async function compressedBytes(block: Buffer, method: CompressionMethod, level: number): Promise<number> {
  const pieces = await openCompressor({ method, level }).compress(block);
  return pieces.reduce((sum, { length }) => sum + length, 0);
}

for (const [method, fastest, best] of [
  ['gzip', 1, 9],
  ['zstd', 1, 19],
] as const) {
  test(`${method} compresses as much as its level says`, async () => {
    const words = randomBytes(4096).toString('hex');
    const random = new SeededRandom(1);
    const block = Buffer.from(
      Array.from({ length: 30_000 }, () =>
        words.slice(random.below(8000)).slice(0, 3 + random.below(20)),
      ).join(' '),
    );
    const [most, least] = [
      await compressedBytes(block, method, fastest),
      await compressedBytes(block, method, best),
    ];
    assert.ok(least < most * 0.95, `${least} bytes at level ${best}, ${most} at level ${fastest}`);
  });
}

for (const method of ['none', 'gzip', 'lz4', 'zstd'] as const) {
  test(`what ${method} makes stays as it is while the outlet is slow`, async () => {
    const random = new SeededRandom(3);
    const words = randomBytes(4096).toString('hex');
    const content = Buffer.from(
      Array.from({ length: 700_000 }, () =>
        words.slice(random.below(8000)).slice(0, 2 + random.below(20)),
      ).join(''),
    );
    const compressor = openCompressor({ method, level: undefined });
    const put: Buffer[] = [];
    let open = 0;
    const stream = new ArchiveStream(compressor, {
      put: async (pieces) => {
        open += 1;
        assert.equal(open, 1, 'one at a time');
        // whoever overwrites them has the time to
        for (let turn = 0; turn < 5; turn += 1) await setImmediate();
        for (const piece of pieces) put.push(Buffer.from(piece));
        open -= 1;
      },
      commit: () => Promise.resolve(0),
      settle: () => Promise.resolve(),
      rollback: () => true,
      close: () => {},
    });
    await stream.putRaw(compressor.head);
    for (const piece of random.split(content, 300_000)) await stream.write(piece);
    const { rawBytes, rawCrc } = (await stream.commit()) ?? { rawBytes: 0, rawCrc: 0 };
    await stream.putRaw(compressor.tail(rawBytes, rawCrc));
    assert.equal(rawBytes, content.length);

    const parts: Buffer[] = [];
    const source = Readable.from(put) as AsyncIterable<Buffer>;
    for await (const part of decompress(source, method, 'base.tar')) parts.push(Buffer.from(part));
    assert.ok(Buffer.concat(parts).equals(content));
  });
}

test('nothing is put behind a piece that was lost', async () => {
  let puts = 0;
  const stream = new ArchiveStream(openCompressor({ method: 'none', level: undefined }), {
    put: () => {
      puts += 1;
      return Promise.reject(new Error('no space left'));
    },
    commit: () => Promise.resolve(0),
    settle: () => Promise.resolve(),
    rollback: () => true,
    close: () => {},
  });
  void stream.write(Buffer.alloc(1.5 * MiB));
  await setImmediate();
  await assert.rejects(stream.commit(), /no space left/);
  assert.equal(puts, 1);
});

// not gzip: newer versions of Node.js keep zlib's streams for longer
for (const method of ['lz4', 'zstd'] satisfies CompressionMethod[]) {
  test(`what ${method} has compressed is freed while more is compressed`, async () => {
    let putBytes = 0;
    const stream = new ArchiveStream(openCompressor({ method, level: undefined }), {
      put: (pieces) => {
        for (const { length } of pieces) putBytes += length;
        return undefined;
      },
      commit: () => Promise.resolve(0),
      settle: () => Promise.resolve(),
      rollback: () => true,
      close: () => {},
    });
    // nothing of it compresses: what becomes of a block is as large as the block
    const block = randomBytes(MiB);
    const before = process.memoryUsage().external;
    let most = 0;
    for (let blocks = 0; blocks < 48; blocks += 1) {
      await stream.write(block);
      most = Math.max(most, process.memoryUsage().external - before);
    }
    await stream.commit();
    assert.ok(putBytes >= 48 * MiB);
    assert.ok(most < 24 * MiB, `${most} bytes outside of the heap`);
  });
}
