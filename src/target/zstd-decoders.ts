/*
 * The decoders of zstd that this Node.js has, called by zstd-frames.ts: its own from 22.15 on; before that the optional
 * dependency for whole frames, and for streams, or where there is none for this machine, one in JavaScript.
 */
import * as zlib from 'node:zlib';
import { pipeline, type Duplex } from 'node:stream';
import { decompress, Decompress } from 'fzstd';

/** What @types/node 20 does not know. */
interface NativeZstd {
  readonly createZstdDecompress?: (options: { chunkSize: number }) => Duplex;
  readonly zstdDecompress?: (
    frame: Buffer,
    options: { chunkSize: number },
    done: (error: Error | null, content: Buffer) => void,
  ) => void;
}

type WholeDecoder = (frame: Buffer) => Promise<Buffer>;

const CHUNK_BYTES = 256 * 1024;
/** A frame of pgconvoy's in one piece, with room to see its end: zlib's own 16 KiB make it five times slower. */
const WHOLE_CHUNK_BYTES = 1024 * 1024 + 1;
const native = zlib as NativeZstd;
let wholeDecoder: Promise<WholeDecoder> | undefined;

/** Decompresses one frame. @throws whatever the decoder throws */
export async function decompressZstdWhole(frame: Buffer): Promise<Buffer> {
  wholeDecoder ??= findWholeDecoder();
  return await (
    await wholeDecoder
  )(frame);
}

async function findWholeDecoder(): Promise<WholeDecoder> {
  const { zstdDecompress } = native;
  if (zstdDecompress !== undefined) {
    return (frame) =>
      new Promise((resolve, reject) => {
        zstdDecompress(frame, { chunkSize: WHOLE_CHUNK_BYTES }, (error, content) =>
          error === null ? resolve(content) : reject(error),
        );
      });
  }
  try {
    return (await import('@mongodb-js/zstd')).decompress;
  } catch {
    return (frame) => Promise.resolve(asBuffer(decompress(frame)));
  }
}

/** Decompresses the parts of one frame. @throws whatever the decoder throws, or the parts */
export async function* streamZstd(parts: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  if (native.createZstdDecompress !== undefined) {
    const decoder = native.createZstdDecompress({ chunkSize: CHUNK_BYTES });
    // a failure of the parts destroys the decoder, which hands it on
    pipeline(parts, decoder, () => {});
    yield* decoder as AsyncIterable<Buffer>;
    return;
  }
  const decoded: Uint8Array[] = [];
  const decoder = new Decompress((chunk) => decoded.push(chunk));
  for await (const part of parts) {
    decoder.push(part);
    yield* decoded.splice(0).map(asBuffer);
  }
  decoder.push(new Uint8Array(0), true);
  yield* decoded.splice(0).map(asBuffer);
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
