/*
 * Decompresses a row of lz4 frames: linked or independent blocks, every checksum looked at. Memory is that of two blocks.
 * Called by decompression.ts. Format: lz4's doc/lz4_Frame_format.md.
 */
import { ByteQueue } from './byte-queue.js';
import { Lz4Memory, MAX_LZ4_BLOCK_BYTES } from './lz4-memory.js';

const MAGIC = 0x184d2204;
/** The last four bits are free. */
const SKIPPABLE_MAGIC = 0x184d2a50;
const HIGH_BIT = 0x8000_0000;

interface FrameHeader {
  readonly isLinked: boolean;
  readonly hasBlockChecksums: boolean;
  readonly hasContentChecksum: boolean;
  readonly contentBytes: bigint | undefined;
  readonly maxBlockBytes: number;
}

/**
 * @param fail makes the error of a reason
 * @returns pieces, each valid until the next is asked for
 */
export async function* decompressLz4(
  source: AsyncIterable<Buffer>,
  fail: (reason: string) => Error,
): AsyncGenerator<Buffer> {
  const bytes = new ByteQueue(source, () => fail('unexpected end of file'));
  const memory = new Lz4Memory();
  try {
    while (!(await bytes.isEmpty())) {
      const magic = (await bytes.take(4)).readUInt32LE();
      if ((magic & ~0xf) >>> 0 === SKIPPABLE_MAGIC) {
        await bytes.skip((await bytes.take(4)).readUInt32LE());
      } else if (magic === MAGIC) {
        const header = await readHeader(bytes, memory, fail);
        yield* readFrame(header, bytes, memory, fail);
      } else {
        throw fail('not an lz4 frame');
      }
    }
  } finally {
    await bytes.close();
  }
}

async function readHeader(
  bytes: ByteQueue,
  memory: Lz4Memory,
  fail: (reason: string) => Error,
): Promise<FrameHeader> {
  const start = await bytes.take(2);
  const flags = start.readUInt8(0);
  const hasSize = (flags & 0x08) !== 0;
  const size = await bytes.take(hasSize ? 8 : 0);
  const expected = (await bytes.take(1)).readUInt8();
  if (((memory.hashOf(Buffer.concat([start, size])) >> 8) & 0xff) !== expected) {
    throw fail('header checksum mismatch');
  }
  const maxBlockBytes = 2 ** (8 + 2 * ((start.readUInt8(1) >> 4) & 7));
  // version 1; a dictionary would have to be known
  if (flags >> 6 !== 1 || (flags & 0x01) !== 0 || maxBlockBytes < 65_536) throw fail('unsupported lz4 frame');
  return {
    isLinked: (flags & 0x20) === 0,
    hasBlockChecksums: (flags & 0x10) !== 0,
    hasContentChecksum: (flags & 0x04) !== 0,
    contentBytes: hasSize ? size.readBigUInt64LE() : undefined,
    maxBlockBytes,
  };
}

async function* readFrame(
  header: FrameHeader,
  bytes: ByteQueue,
  memory: Lz4Memory,
  fail: (reason: string) => Error,
): AsyncGenerator<Buffer> {
  memory.beginFrame();
  let total = 0n;
  for (;;) {
    const word = (await bytes.take(4)).readUInt32LE();
    if (word === 0) break;
    const length = word % HIGH_BIT;
    if (length > MAX_LZ4_BLOCK_BYTES) throw fail('invalid block size');
    const block = await bytes.take(length);
    if (header.hasBlockChecksums && memory.hashOf(block) !== (await bytes.take(4)).readUInt32LE()) {
      throw fail('block checksum mismatch');
    }
    const decoded =
      word >= HIGH_BIT
        ? memory.store(block, header.maxBlockBytes)
        : memory.decode(block, header.maxBlockBytes, header.isLinked);
    if (decoded === undefined) throw fail('invalid block');
    if (header.hasContentChecksum) memory.hashDecoded();
    total += BigInt(decoded.length);
    yield decoded;
  }
  if (header.hasContentChecksum && memory.contentHash() !== (await bytes.take(4)).readUInt32LE()) {
    throw fail('content checksum mismatch');
  }
  if (header.contentBytes !== undefined && header.contentBytes !== total) throw fail('content size mismatch');
}
