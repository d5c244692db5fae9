/*
 * A backup that comes as one stream (`pgconvoy restore -`): nobody says how it is compressed, its first bytes do.
 * Called by opened-backup.ts.
 */
import type { Readable } from 'node:stream';
import type { ArchiveCompression } from '../target/decompression.js';
import type { BackupArchive } from '../target/finished-backup.js';

export interface StreamedArchive {
  readonly archive: BackupArchive;
  readonly bytes: AsyncIterable<Buffer>;
}

const MAGICS: readonly (readonly [magic: Buffer, compression: ArchiveCompression])[] = [
  [Buffer.from('1f8b', 'hex'), 'gzip'],
  [Buffer.from('04224d18', 'hex'), 'lz4'],
  [Buffer.from('28b52ffd', 'hex'), 'zstd'],
];
const MAGIC_BYTES = 4;

/** Reads the beginning of the stream, and gives it back with the rest. */
export async function openStream(stream: Readable): Promise<StreamedArchive> {
  const source = stream[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
  let head: Buffer = Buffer.alloc(0);
  while (head.length < MAGIC_BYTES) {
    const next = await source.next();
    if (next.done === true) break;
    head = Buffer.concat([head, next.value]);
  }
  const found = MAGICS.find(([magic]) => head.subarray(0, magic.length).equals(magic));
  const compression = found?.[1] ?? 'none';
  return {
    archive: { name: 'standard input', path: '', compression, prefix: '' },
    bytes: joined(head, source),
  };
}

async function* joined(head: Buffer, rest: AsyncIterator<Buffer>): AsyncGenerator<Buffer> {
  try {
    yield head;
    for (let next = await rest.next(); next.done !== true; next = await rest.next()) yield next.value;
  } finally {
    await rest.return?.();
  }
}
