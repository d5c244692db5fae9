import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { ArchiveStream } from '../../src/target/archive-stream.js';
import { openCompressor } from '../../src/target/compression/open-compressor.js';
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
