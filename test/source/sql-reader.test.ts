/*
 * The worker's side of the sql source, over a connection that answers as a test says: files that change between list and
 * read, pages that are torn and heal, pages that stay bad, streams that are no answer. The rows are built here, after
 * PostgreSQL's documentation of COPY's binary format.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { ConvoyError } from '../../src/errors.js';
import type { Lsn } from '../../src/lsn.js';
import { PageMemory } from '../../src/pgdata/page-checksum.js';
import { SqlReader, type ReaderConnection } from '../../src/source/sql-reader.js';
import type { FileReceiver, FileToRead, ReadFile, ReadResult } from '../../src/source/source.js';

const CHUNK = 512 * 1024;
const PAGE = 8192;

/** A row of (range, offset, bytes or NULL). */
interface Row {
  readonly range: number;
  readonly offset: number;
  readonly bytes: Buffer | null;
}

function binaryCopy(rows: readonly Row[]): Buffer {
  const header = Buffer.concat([Buffer.from('PGCOPY\n\xff\r\n\0', 'latin1'), Buffer.alloc(8)]);
  const encoded = rows.map(({ range, offset, bytes }) => {
    const head = Buffer.alloc(26);
    head.writeInt16BE(3, 0);
    head.writeInt32BE(4, 2);
    head.writeInt32BE(range, 6);
    head.writeInt32BE(8, 10);
    head.writeBigInt64BE(BigInt(offset), 14);
    head.writeInt32BE(bytes === null ? -1 : bytes.length, 22);
    return Buffer.concat([head, bytes ?? Buffer.alloc(0)]);
  });
  return Buffer.concat([header, ...encoded, Buffer.from([0xff, 0xff])]);
}

/** The rows that a server sends of a file for ranges of one chunk each. */
function rowsOf(range: number, content: Buffer, offset = 0): Row[] {
  const count = Math.max(1, Math.ceil(content.length / CHUNK));
  return Array.from({ length: count }, (_, index) => ({
    range,
    offset: offset + index * CHUNK,
    bytes: content.subarray(index * CHUNK, (index + 1) * CHUNK),
  }));
}

interface Answer {
  readonly stream: Buffer;
  /** What reading a range of pages again gives; NULL where the file is gone. */
  readonly reread?: (path: string, offset: number, length: number) => Buffer | null;
  /** Bytes a piece; the stream arrives in pieces of this size. */
  readonly pieceBytes?: number;
}

/** What a statement asks for: path, from, to, for each range. */
function rangesIn(statement: string): { path: string; from: number; to: number }[] {
  const [paths = [], starts = [], ends = []] = [...statement.matchAll(/'\{(.*?)\}'::/g)].map(
    ([, list = '']) => list.split(','),
  );
  return paths.map((path, index) => ({
    path: path.slice(1, -1),
    from: Number(starts[index]),
    to: Number(ends[index]),
  }));
}

function answering({ stream, reread, pieceBytes = stream.length }: Answer): ReaderConnection {
  let runs = 0;
  return {
    async run(text, reaction) {
      runs += 1;
      const rereading = rangesIn(text).flatMap(({ path, from, to }, range) => {
        const bytes = runs === 1 ? undefined : (reread?.(path, from, to - from) ?? null);
        return bytes === null || bytes === undefined
          ? [{ range, offset: from, bytes: null }]
          : rowsOf(range, bytes, from);
      });
      const sent = runs === 1 ? stream : binaryCopy(rereading);
      for (let at = 0; at < sent.length; at += pieceBytes) {
        // as the socket's buffer does, the piece is overwritten as soon as it has been taken
        const piece = Buffer.from(sent.subarray(at, at + pieceBytes));
        const wait = reaction?.copy?.(piece, at + pieceBytes >= sent.length);
        piece.fill(0xee);
        // oxlint-disable-next-line eslint/no-await-in-loop
        await wait;
      }
      return [];
    },
    destroy: () => {},
  };
}

interface Taken extends ReadFile {
  readonly index: number;
  readonly content: Buffer;
}

async function read(
  answer: Answer,
  files: readonly FileToRead[],
  startLsn = (1n << 62n) as Lsn,
): Promise<{ files: Taken[]; result: ReadResult }> {
  const memory = PageMemory.create({ bufferCount: 2, bufferBytes: CHUNK });
  const reader = new SqlReader(answering(answer), memory, {
    applicationName: 'test',
    fileMode: 0o600,
    dataChecksums: true,
  });
  const taken: Taken[] = [];
  let open: { index: number; file: ReadFile; chunks: Buffer[] } | undefined;
  const receiver: FileReceiver = {
    begin: (index, begun) => (open = { index, file: begun, chunks: [] }),
    data(chunk) {
      open?.chunks.push(Buffer.from(chunk));
      return undefined;
    },
    end() {
      assert.ok(open);
      taken.push({ index: open.index, ...open.file, content: Buffer.concat(open.chunks) });
      open = undefined;
    },
  };
  const result = await reader.read(files, { startLsn, verifyPageChecksums: true }, receiver);
  assert.equal(open, undefined, 'every file that was begun is ended');
  for (const { size, content } of taken) assert.equal(content.length, size);
  return { files: taken, result };
}

function file(target: string, size: number, range?: { offset: number; length: number }): FileToRead {
  return { source: target, target, size, mtime: 1_700_000_000, range };
}

/** A page that PostgreSQL would take as good (checksum as computed by checksum_impl.h, here in plain arithmetic). */
function goodPage(block: number, filler: number, lsnLow: number): Buffer {
  const page = Buffer.alloc(PAGE, filler);
  page.writeUInt32LE(0, 0);
  page.writeUInt32LE(lsnLow, 4);
  page.writeUInt16LE(24, 12);
  page.writeUInt16LE(PAGE, 14);
  page.writeUInt16LE(0, 8);
  page.writeUInt16LE(checksum(page, block), 8);
  return page;
}

const OFFSETS = [
  0x5b1f36e9, 0xb8525960, 0x02ab50aa, 0x1de66d2a, 0x79ff467a, 0x9bb9f8a3, 0x217e7cd2, 0x83e13d2c, 0xf8d4474f,
  0xe39eb970, 0x42c6ae16, 0x993216fa, 0x7b093b5d, 0x98daff3c, 0xf718902a, 0x0b1c9cdb, 0xe58f764b, 0x187636bc,
  0x5d7b3bb1, 0xe73de7de, 0x92bec979, 0xcca6c0b2, 0x304a0979, 0x85aa43d4, 0x783125bb, 0x6ca8eaa2, 0xe407eac6,
  0x4b5cfc3e, 0x9fbf8c76, 0x15ca20be, 0xf2ca9fd3, 0x959bd756,
];

function checksum(page: Buffer, block: number): number {
  const step = (sum: number, value: number): number => {
    const mixed = sum ^ value;
    return Math.imul(mixed, 16777619) ^ (mixed >>> 17);
  };
  const sums = [...OFFSETS];
  for (let at = 0; at < PAGE; at += 4) {
    const lane = (at / 4) % 32;
    sums[lane] = step(sums[lane] ?? 0, page.readUInt32LE(at));
  }
  const mixed = sums.map((sum) => step(step(sum, 0), 0));
  return (((mixed.reduce((a, b) => a ^ b, 0) ^ block) >>> 0) % 65535) + 1;
}

describe('files that change between list and read', () => {
  const listed = [file('base/5/100', 1000), file('base/5/200', 3 * CHUNK)];
  /** The row of the first, which has vanished. */
  const GONE: Row = { range: 0, offset: 0, bytes: null };

  test('a small file is taken as it is now, whether it has grown or shrunk', async () => {
    for (const bytes of [0, 1, 999, 1001, CHUNK]) {
      const content = Buffer.alloc(bytes, 7);
      const { files } = await read({ stream: binaryCopy(rowsOf(0, content)) }, [
        file('postgresql.auto.conf', 1000),
      ]);
      assert.deepEqual(files[0]?.content, content);
    }
  });

  test('one that has vanished is not begun', async () => {
    const stream = binaryCopy([
      GONE,
      ...[0, 1, 2].map((index) => ({ range: 1, offset: index * CHUNK, bytes: null })),
    ]);
    const { files, result } = await read({ stream }, listed);
    assert.deepEqual(files, []);
    assert.equal(result.hasBadPages, false);
  });

  test('a large one that has shrunk is filled with zeros to what was listed', async () => {
    const left = Buffer.alloc(CHUNK + 2 * PAGE, 9);
    const rows = [GONE, ...rowsOf(1, left), { range: 1, offset: 2 * CHUNK, bytes: Buffer.alloc(0) }];
    const { files } = await read({ stream: binaryCopy(rows) }, listed, 0n as Lsn);
    assert.deepEqual(files[0]?.content, Buffer.concat([left, Buffer.alloc(3 * CHUNK - left.length)]));
  });

  test('a large one that vanishes while it is read is zeros from there on', async () => {
    const begun = Buffer.alloc(CHUNK, 9);
    const rows = [
      GONE,
      ...rowsOf(1, begun),
      { range: 1, offset: CHUNK, bytes: null },
      { range: 1, offset: 2 * CHUNK, bytes: null },
    ];
    const { files } = await read({ stream: binaryCopy(rows) }, listed, 0n as Lsn);
    assert.deepEqual(files[0]?.content, Buffer.concat([begun, Buffer.alloc(2 * CHUNK)]));
  });

  test('a range of a file is as long as was asked, wherever the stream is cut', async () => {
    const content = Buffer.from(Array.from({ length: CHUNK + PAGE }, (_, index) => index % 251));
    const stream = binaryCopy(rowsOf(0, content, CHUNK));
    const range = { offset: CHUNK, length: CHUNK + PAGE };
    for (const pieceBytes of [1, 7, 26, PAGE + 1, stream.length]) {
      const asked = [file('base/5/300', 4 * CHUNK, range)];
      const { files } = await read({ stream, pieceBytes }, asked, 0n as Lsn);
      assert.deepEqual(files[0]?.content, content, `pieces of ${pieceBytes}`);
    }
  });
});

describe('pages', () => {
  const pages = [0, 1, 2, 3].map((block) => goodPage(block, block + 1, 0x100));
  const torn = Buffer.from(pages[2] ?? '');
  torn.fill(0x55, PAGE / 2);
  const damaged = Buffer.concat([...pages.slice(0, 2), torn, ...pages.slice(3)]);
  const asked = [file('base/5/16384', damaged.length)];

  test('good ones pass, in the file and in the second segment', async () => {
    const content = Buffer.concat(pages);
    const { result } = await read({ stream: binaryCopy(rowsOf(0, content)) }, asked);
    assert.deepEqual(result, { hasBadPages: false, warnings: [] });
    const second = Buffer.concat([0, 1].map((block) => goodPage(131_072 + block, 3, 0x100)));
    const { result: ofSecond } = await read({ stream: binaryCopy(rowsOf(0, second)) }, [
      file('base/5/16384.1', second.length),
    ]);
    assert.equal(ofSecond.hasBadPages, false);
  });

  test('a torn one that is good when it is read again is no word worth', async () => {
    const reread: [string, number][] = [];
    for (const pieceBytes of [1000, PAGE, 3 * PAGE + 5]) {
      const { result } = await read(
        {
          stream: binaryCopy(rowsOf(0, damaged)),
          pieceBytes,
          reread: (path, offset) => {
            reread.push([path, offset]);
            return pages[2] ?? null;
          },
        },
        asked,
      );
      assert.deepEqual(result, { hasBadPages: false, warnings: [] });
    }
    assert.deepEqual(reread[0], ['base/5/16384', 2 * PAGE], 'by its own range');
    assert.equal(reread.length, 3, 'once each');
  });

  test('one that is gone when it is read again is no word worth either', async () => {
    for (const again of [null, Buffer.alloc(0)]) {
      const { result } = await read({ stream: binaryCopy(rowsOf(0, damaged)), reread: () => again }, asked);
      assert.equal(result.hasBadPages, false);
    }
  });

  test('one that is bad again is reported with file and block, and copied as it is', async () => {
    const { result, files } = await read(
      { stream: binaryCopy(rowsOf(0, damaged)), pieceBytes: 10_000, reread: () => torn },
      asked,
    );
    assert.equal(result.hasBadPages, true);
    assert.match(
      result.warnings.join('\n'),
      /^checksum verification failed in file "base\/5\/16384", block 2: /,
    );
    assert.deepEqual(files[0]?.content, damaged);
  });

  test('in the second segment, and in a range, the block is that of the relation', async () => {
    const page = goodPage(131_072 + 64, 3, 0x100);
    page.fill(0, 100, 200);
    const range = { offset: 64 * PAGE, length: PAGE };
    const offsets: number[] = [];
    const { result } = await read(
      {
        stream: binaryCopy(rowsOf(0, page, range.offset)),
        reread: (_path, offset) => {
          offsets.push(offset);
          return page;
        },
      },
      [file('pg_tblspc/16390/PG_15_202209061/5/16384.1', 128 * PAGE, range)],
    );
    assert.deepEqual(offsets, [64 * PAGE]);
    assert.match(result.warnings[0] ?? '', /block 131136: /);
  });

  test('a file that is damaged all over is read once more, in as many bytes and few ranges', async () => {
    const content = Buffer.concat(
      Array.from({ length: 200 }, (_, block) => {
        const page = goodPage(block, 7, 0x100);
        if (block !== 50) page.fill(0x55, PAGE / 2);
        return page;
      }),
    );
    const reread: [number, number][] = [];
    const { result } = await read(
      {
        stream: binaryCopy(rowsOf(0, content)),
        pieceBytes: 100_001,
        reread: (_path, offset, length) => {
          reread.push([offset, length]);
          return content.subarray(offset, offset + length);
        },
      },
      [file('base/5/16384', content.length)],
    );
    assert.deepEqual(reread, [
      [0, 50 * PAGE],
      [51 * PAGE, 149 * PAGE],
    ]);
    assert.equal(result.warnings.length, 7);
    assert.match(result.warnings[0] ?? '', /block 0: /);
    assert.match(result.warnings.at(-1) ?? '', /has a total of 199 checksum verification failures$/);
  });

  test('of a file that has been truncated since, the pages that are left count', async () => {
    const content = Buffer.concat(Array.from({ length: 200 }, () => torn));
    const { result } = await read(
      {
        stream: binaryCopy(rowsOf(0, content)),
        // cut within a page
        reread: (_path, offset) => content.subarray(offset, 70 * PAGE + 100),
      },
      [file('base/5/16384', content.length)],
    );
    assert.match(result.warnings.at(-1) ?? '', /has a total of 70 checksum verification failures$/);
  });

  test('pages of every other place take a thousand to a statement', async () => {
    const content = Buffer.concat(
      Array.from({ length: 2402 }, (_, block) => (block % 2 === 0 ? torn : goodPage(block, 7, 0x100))),
    );
    let ranges = 0;
    const { result } = await read(
      {
        stream: binaryCopy(rowsOf(0, content)),
        reread: (_path, offset, length) => {
          ranges += 1;
          return content.subarray(offset, offset + length);
        },
      },
      [file('base/5/16384', content.length)],
    );
    assert.equal(ranges, 1201);
    assert.match(result.warnings.at(-1) ?? '', /has a total of 1201 checksum verification failures$/);
  });

  test('pages that were changed since the start are not looked at', async () => {
    const { result } = await read({ stream: binaryCopy(rowsOf(0, damaged)) }, asked, 0x100n as Lsn);
    assert.equal(result.hasBadPages, false);
  });
});

describe('an answer that is none', () => {
  const good = binaryCopy(rowsOf(0, Buffer.alloc(100)));
  const cases: readonly { name: string; stream: Buffer }[] = [
    { name: 'no signature', stream: Buffer.alloc(100) },
    { name: 'cut short', stream: good.subarray(0, 80) },
    { name: 'without its end', stream: good.subarray(0, good.length - 2) },
    { name: 'more after its end', stream: Buffer.concat([good, Buffer.alloc(30)]) },
    { name: 'a row that is too long', stream: binaryCopy(rowsOf(0, Buffer.alloc(10))).fill(0x7f, 41, 42) },
    { name: 'a row of a file that was not asked for', stream: binaryCopy(rowsOf(1, Buffer.alloc(100))) },
    { name: 'a row from elsewhere in the file', stream: binaryCopy(rowsOf(0, Buffer.alloc(100), PAGE)) },
    { name: 'a header extension', stream: Buffer.from(good).fill(1, 18, 19) },
  ];
  for (const { name, stream } of cases) {
    test(`${name} is refused`, async () => {
      await assert.rejects(read({ stream }, [file('PG_VERSION', 3)]), (error: unknown) => {
        assert.ok(error instanceof ConvoyError);
        assert.equal(error.code, 'untrusted_peer');
        return true;
      });
    });
  }
});
