/*
 * Decompresses a row of zstd frames in bounded memory. Frames that say that they are small are decompressed as a whole by
 * native code, several at a time (pgconvoy writes such); others go through a streaming decoder (pg_basebackup
 * writes one frame). Called by decompression.ts. Format: RFC 8878.
 */
import { ConvoyError } from '../errors.js';
import { ByteQueue } from './byte-queue.js';
import { decompressZstdWhole, streamZstd } from './zstd-decoders.js';

const MAGIC = 0xfd2f_b528;
/** The last four bits are free. */
const SKIPPABLE_MAGIC = 0x184d_2a50;
/** Frames of so much content are decompressed as a whole. */
const MAX_WHOLE_BYTES = 4 * 1024 * 1024;
/** Of such a frame, where the encoder was made to flush often. */
const MAX_WHOLE_BLOCKS = 1024;
/** Frames that are decompressed while others are read and used. */
const LOOK_AHEAD = 4;
const LAST_BLOCK = 1;
const RLE_BLOCK = 1;

interface FrameHeader {
  readonly bytes: Buffer;
  readonly contentBytes: bigint | undefined;
  readonly hasChecksum: boolean;
}

/** @param fail makes the error of a reason */
export async function* decompressZstd(
  source: AsyncIterable<Buffer>,
  fail: (reason: string) => ConvoyError,
): AsyncGenerator<Buffer> {
  const bytes = new ByteQueue(source, () => fail('unexpected end of file'));
  const ahead: Promise<Buffer>[] = [];
  try {
    while (!(await bytes.isEmpty())) {
      const magic = await bytes.take(4);
      if ((magic.readUInt32LE() & ~0xf) >>> 0 === SKIPPABLE_MAGIC) {
        await bytes.skip((await bytes.take(4)).readUInt32LE());
        continue;
      }
      if (magic.readUInt32LE() !== MAGIC) throw fail('not a zstd frame');
      const header = await readHeader(magic, bytes);
      if (header.contentBytes !== undefined && header.contentBytes <= MAX_WHOLE_BYTES) {
        ahead.push(startWhole(header, await collect(header, bytes, fail), fail));
        if (ahead.length > LOOK_AHEAD) yield* settled(ahead.shift());
        continue;
      }
      while (ahead.length > 0) yield* settled(ahead.shift());
      yield* streamFrame(header, bytes, fail);
    }
    while (ahead.length > 0) yield* settled(ahead.shift());
  } finally {
    await bytes.close();
  }
}

async function* settled(frame: Promise<Buffer> | undefined): AsyncGenerator<Buffer> {
  if (frame !== undefined) yield await frame;
}

function startWhole(
  header: FrameHeader,
  frame: Buffer,
  fail: (reason: string) => ConvoyError,
): Promise<Buffer> {
  const content = decompressZstdWhole(frame).then(
    (whole) => {
      if (BigInt(whole.length) !== header.contentBytes) throw fail('content size mismatch');
      return whole;
    },
    (error: unknown) => {
      throw fail(error instanceof Error ? error.message : String(error));
    },
  );
  // whoever waits for it hears of it; nobody may, after another failure
  content.catch(() => {});
  return content;
}

async function readHeader(magic: Buffer, bytes: ByteQueue): Promise<FrameHeader> {
  const start = await bytes.take(1);
  const descriptor = start.readUInt8();
  const isSingleSegment = (descriptor & 0x20) !== 0;
  const sizeFlag = descriptor >> 6;
  const sizeLength = sizeFlag === 0 ? Number(isSingleSegment) : 2 ** sizeFlag;
  const dictionaryLength = [0, 1, 2, 4][descriptor & 3] ?? 0;
  const between = await bytes.take((isSingleSegment ? 0 : 1) + dictionaryLength);
  const size = await bytes.take(sizeLength);
  return {
    bytes: Buffer.concat([magic, start, between, size]),
    contentBytes: contentSize(size),
    hasChecksum: (descriptor & 0x04) !== 0,
  };
}

function contentSize(field: Buffer): bigint | undefined {
  switch (field.length) {
    case 0:
      return undefined;
    case 2:
      return BigInt(field.readUInt16LE() + 256);
    case 8:
      return field.readBigUInt64LE();
    default:
      return BigInt(field.readUIntLE(0, field.length));
  }
}

/** The blocks of a frame, with their headers, then its checksum. */
async function* blocksOf(
  header: FrameHeader,
  bytes: ByteQueue,
  fail: (reason: string) => ConvoyError,
): AsyncGenerator<Buffer> {
  for (;;) {
    const blockHeader = await bytes.take(3);
    const word = blockHeader.readUIntLE(0, 3);
    const type = (word >> 1) & 3;
    if (type === 3) throw fail('invalid block');
    yield blockHeader;
    yield await bytes.take(type === RLE_BLOCK ? 1 : word >> 3);
    if ((word & LAST_BLOCK) !== 0) break;
  }
  if (header.hasChecksum) yield await bytes.take(4);
}

async function collect(
  header: FrameHeader,
  bytes: ByteQueue,
  fail: (reason: string) => ConvoyError,
): Promise<Buffer> {
  const parts = [header.bytes];
  for await (const part of blocksOf(header, bytes, fail)) {
    parts.push(part);
    if (parts.length > 2 * MAX_WHOLE_BLOCKS) throw fail('too many blocks in a small frame');
  }
  return Buffer.concat(parts);
}

async function* streamFrame(
  header: FrameHeader,
  bytes: ByteQueue,
  fail: (reason: string) => ConvoyError,
): AsyncGenerator<Buffer> {
  async function* parts(): AsyncGenerator<Buffer> {
    yield header.bytes;
    yield* blocksOf(header, bytes, fail);
  }
  try {
    yield* streamZstd(parts());
  } catch (error) {
    if (error instanceof ConvoyError) throw error;
    throw fail(error instanceof Error ? error.message : String(error));
  }
}
