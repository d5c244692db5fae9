/* Tar streams are built by tar-stream, by pg_basebackup, and by hand after PostgreSQL's src/port/tar.c. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { buffer } from 'node:stream/consumers';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { describe, test } from 'node:test';
import { extract, pack, type Header } from 'tar-stream';
import { ConvoyError } from '../../src/errors.js';
import { decodeTarHeader, type TarHeader } from '../../src/tar/tar-header.js';
import { TarMemberReader } from '../../src/tar/tar-members.js';
import { temporaryDirectory } from '../support/cleanup.js';
import { testServer } from '../support/postgres.js';
import { SeededRandom } from '../support/seeded-random.js';
import { requireTool, run } from '../support/tools.js';

interface Member extends TarHeader {
  readonly content: Buffer;
}

/** Collects members; chunks are copied, as they are only lent. */
class Collector {
  readonly members: Member[] = [];
  readonly reader: TarMemberReader;
  #header: TarHeader | undefined;
  #chunks: Buffer[] = [];

  constructor() {
    this.reader = new TarMemberReader({
      begin: (header) => {
        assert.equal(this.#header, undefined, 'begin after end');
        this.#header = header;
        this.#chunks = [];
      },
      data: (chunk) => {
        assert.ok(chunk.length > 0);
        this.#chunks.push(Buffer.from(chunk));
        return undefined;
      },
      end: () => {
        assert.ok(this.#header !== undefined, 'end after begin');
        this.members.push({ ...this.#header, content: Buffer.concat(this.#chunks) });
        this.#header = undefined;
      },
    });
  }

  push(...chunks: readonly Buffer[]): this {
    for (const chunk of chunks) {
      const lent = Buffer.from(chunk);
      void this.reader.push(lent);
      lent.fill(0xff);
    }
    return this;
  }
}

type HeaderFields = Partial<Header> & { readonly name: string };

interface Entry {
  readonly header: HeaderFields;
  readonly content?: Buffer;
}

/** A tar stream without the two empty blocks at its end, which a COPY stream does not have. */
async function tarOf(entries: readonly Entry[]): Promise<Buffer> {
  const packer = pack();
  for (const { header, content = Buffer.alloc(0) } of entries) packer.entry(header, content);
  packer.finalize();
  const whole = await buffer(packer);
  return whole.subarray(0, -1024);
}

const MTIME = 1_700_000_000;

function entry(name: string, content: Buffer, more: Partial<HeaderFields> = {}): Entry {
  return { header: { name, mode: 0o600, mtime: new Date(MTIME * 1000), ...more }, content };
}

function member(name: string, content: Buffer, more: Partial<Member> = {}): Member {
  const size = content.length;
  const owner = { uid: 0, gid: 0 };
  return { name, type: 'file', size, mode: 0o600, mtime: MTIME, owner, linkName: '', content, ...more };
}

function decode(block: Buffer): object {
  return decodeTarHeader(block, (reason) => new ConvoyError('untrusted_peer', reason), false);
}

const PAGE = Buffer.alloc(1200, 'page');
const ENTRIES: readonly Entry[] = [
  entry('base/1/112', PAGE),
  entry('PG_VERSION', Buffer.from('15\n'), { mode: 0o640, mtime: new Date(1000), uid: 101, gid: 104 }),
  entry('base/1/', Buffer.alloc(0), { type: 'directory', mode: 0o750 }),
  entry('empty', Buffer.alloc(0)),
  entry('./pg_tblspc/16384/', Buffer.alloc(0), { type: 'symlink', linkname: '/srv/ts 1', mode: 0o777 }),
  entry('exactly one block', Buffer.alloc(512, 1)),
  entry('one byte more', Buffer.alloc(513, 2)),
  entry(`${'d'.repeat(60)}/${'e'.repeat(60)}`, Buffer.from('a prefix is used')),
];
const MEMBERS: readonly Member[] = [
  member('base/1/112', PAGE),
  member('PG_VERSION', Buffer.from('15\n'), { mode: 0o640, mtime: 1, owner: { uid: 101, gid: 104 } }),
  member('base/1/', Buffer.alloc(0), { type: 'directory', mode: 0o750 }),
  member('empty', Buffer.alloc(0)),
  member('./pg_tblspc/16384/', Buffer.alloc(0), { type: 'link', linkName: '/srv/ts 1', mode: 0o777 }),
  member('exactly one block', Buffer.alloc(512, 1)),
  member('one byte more', Buffer.alloc(513, 2)),
  member(`${'d'.repeat(60)}/${'e'.repeat(60)}`, Buffer.from('a prefix is used')),
];

describe('members come out whole', () => {
  test('out of one chunk', async () => {
    const collector = new Collector().push(await tarOf(ENTRIES));
    assert.deepEqual(collector.members, MEMBERS);
    collector.reader.finish();
  });

  test('wherever the stream is split in two', async () => {
    const stream = await tarOf(ENTRIES);
    for (let at = 0; at <= stream.length; at += 1) {
      const collector = new Collector().push(stream.subarray(0, at), stream.subarray(at));
      assert.equal(collector.members.length, MEMBERS.length, `split at ${at}`);
      // comparing all of them at every byte would take seconds
      if (at % 61 === 0) assert.deepEqual(collector.members, MEMBERS);
      collector.reader.finish();
    }
  });

  test('split at random, byte by byte too', async () => {
    const random = new SeededRandom(30);
    for (const maxPiece of [1, 3, 100, 511, 513, 5000, 20_000]) {
      const entries = Array.from({ length: 12 }, (_none, index) =>
        entry(`file${index}`, random.bytes(random.pick([0, 1, 511, 512, 513, 3000]))),
      );
      const expected = entries.map(({ header, content }) => member(header.name, content ?? PAGE));
      const collector = new Collector().push(...random.split(await tarOf(entries), maxPiece));
      assert.deepEqual(collector.members, expected);
      collector.reader.finish();
    }
  });

  test('as pg_basebackup of a real server wrote them', async (t) => {
    const command = requireTool(t, 'pg_basebackup');
    if (command === undefined) return;
    const server = await testServer(t, { major: 15 });
    const directory = path.join(await temporaryDirectory(t), 'backup');
    const flags = ['-d', server.conninfo, '-D', directory, '-F', 't', '-X', 'none', '-N', '-c', 'fast'];
    const result = await run(command, [...flags, '--no-manifest']);
    assert.equal(result.status, 0, result.stderr);
    const archive = readFileSync(path.join(directory, 'base.tar'));
    const collector = new Collector().push(
      ...new SeededRandom(31).split(archive.subarray(0, -1024), 100_000),
    );
    collector.reader.finish();
    const summaries = collector.members.map(({ content, ...header }) => ({
      ...header,
      digest: digest(content),
    }));
    assert.deepEqual(summaries, await summarize(archive));
    assert.ok(summaries.length > 900, 'a whole cluster');
  });
});

function digest(content: Buffer): string {
  return createHash('sha256').update(content).digest('hex');
}

/** The members of an archive as tar-stream sees them. */
async function summarize(archive: Buffer): Promise<object[]> {
  const extractor = extract();
  extractor.end(archive);
  const summaries: object[] = [];
  for await (const found of extractor) {
    const { name, type, size, mode, mtime, uid, gid, linkname } = found.header;
    summaries.push({
      name,
      type: type === 'symlink' ? 'link' : type,
      size,
      mode,
      mtime: (mtime?.getTime() ?? 0) / 1000,
      owner: { uid, gid },
      linkName: linkname ?? '',
      digest: digest(await buffer(found)),
    });
  }
  return summaries;
}

describe('back-pressure', () => {
  test('what the handler asks to wait for is passed on, and what is in hand is delivered first', async () => {
    const waits: (() => void)[] = [];
    const names: string[] = [];
    const reader = new TarMemberReader({
      begin: ({ name }) => names.push(name),
      data: () => new Promise((resolve) => waits.push(resolve)),
      end: () => {},
    });
    const stream = await tarOf([entry('a', PAGE), entry('b', Buffer.alloc(0)), entry('c', PAGE)]);
    const wait = reader.push(stream.subarray(0, stream.length - 600));
    assert.deepEqual(names, ['a', 'b', 'c']);
    assert.equal(waits.length, 2);
    let isOver = false;
    void wait?.then(() => (isOver = true));
    await nextTurn();
    assert.equal(isOver, false);
    for (const end of waits) end();
    await wait;
    assert.equal(reader.push(stream.subarray(stream.length - 600)) === undefined, false);
  });

  test('a handler that does not ask is not waited for', async () => {
    const reader = new TarMemberReader({ begin: () => {}, data: () => undefined, end: () => {} });
    assert.equal(reader.push(await tarOf(ENTRIES)), undefined);
  });
});

interface RawHeader {
  readonly name?: string;
  readonly mode?: string | Buffer;
  readonly size?: string | Buffer;
  readonly mtime?: string | Buffer;
  readonly checksum?: string;
  readonly type?: string;
  readonly linkName?: string;
  readonly prefix?: string;
}

/** A header block, field by field, with the right checksum unless another is given. */
function rawHeader(fields: RawHeader): Buffer {
  const block = Buffer.alloc(512);
  const put = (offset: number, value: string | Buffer): void => {
    block.set(Buffer.from(value), offset);
  };
  put(0, fields.name ?? 'file');
  put(100, fields.mode ?? '0000600\0');
  put(108, '0000000\0');
  put(116, '0000000\0');
  put(124, fields.size ?? '00000000000\0');
  put(136, fields.mtime ?? '00000000000\0');
  put(148, '        ');
  put(156, fields.type ?? '0');
  put(157, fields.linkName ?? '');
  put(257, 'ustar');
  put(263, '00');
  put(345, fields.prefix ?? '');
  const sum = block.reduce((total, byte) => total + byte, 0);
  put(148, fields.checksum ?? `${sum.toString(8).padStart(6, '0')}\0 `);
  return block;
}

/** print_tar_number for what octal digits cannot hold: 0x80, then big-endian. */
function base256(value: bigint): Buffer {
  const bytes = Buffer.alloc(12);
  bytes[0] = 0x80;
  bytes.writeBigUInt64BE(value, 4);
  return bytes;
}

describe('headers made by hand', () => {
  const good: readonly (readonly [name: string, fields: RawHeader, expected: Partial<TarHeader>])[] = [
    ['sizes past 8 GiB in base 256', { size: base256(9n << 30n) }, { size: 9_663_676_416 }],
    ['the largest size in octal', { size: '77777777777\0' }, { size: 8_589_934_591 }],
    ['twelve octal digits without an end', { size: '777777777777' }, { size: 68_719_476_735 }],
    ['numbers padded with blanks', { size: '      17654 ', mode: '   644 \0' }, { size: 8108, mode: 0o644 }],
    ['an empty number is 0', { size: '' }, { size: 0 }],
    ['the old type of files', { type: '\0' }, { type: 'file' }],
    ['a name of a hundred bytes', { name: 'n'.repeat(100) }, { name: 'n'.repeat(100) }],
    [
      'a link target of a hundred bytes',
      { type: '2', linkName: 'l'.repeat(100) },
      { linkName: 'l'.repeat(100) },
    ],
    ['a name in UTF-8', { name: 'base/Größe' }, { name: 'base/Größe' }],
    ['a name that goes on in the prefix', { name: 'b', prefix: 'a' }, { name: 'a/b' }],
    ['a size of a directory is not one of content', { type: '5', size: '00000001000\0' }, { size: 0 }],
    ['set-id and sticky bits are not permission bits', { mode: '0007755\0' }, { mode: 0o755 }],
    ['a name of dots is for the caller to refuse', { name: '../x' }, { name: '../x' }],
  ];
  for (const [name, fields, expected] of good) {
    test(name, () => {
      const header = decode(rawHeader(fields));
      assert.deepEqual({ ...header, ...expected }, header);
    });
  }

  const bad: readonly (readonly [name: string, fields: RawHeader])[] = [
    ['a wrong checksum', { checksum: '000001\0 ' }],
    ['no checksum', { checksum: '\0\0\0\0\0\0\0\0' }],
    ['a negative size, base 256', { size: Buffer.alloc(12, 0xff) }],
    ['a negative size, octal', { size: '-0000000001\0' }],
    ['a size past 2^53', { size: base256(1n << 53n) }],
    ['a size that is no number', { size: '0x000001000\0' }],
    ['an mtime past the year 9999', { mtime: base256(253_402_300_800n) }],
    ['a negative mtime', { mtime: base256(0xffff_ffff_ffff_ffffn) }],
    ['a mode that is no number', { mode: 'rw-r--r-' }],
    ['a hard link', { type: '1' }],
    ['a character device', { type: '3' }],
    ['a FIFO', { type: '6' }],
    ['an extended header', { type: 'x' }],
    ["GNU's long name", { type: 'L' }],
    ['a sparse file', { type: 'S' }],
  ];
  for (const [name, fields] of bad) {
    test(`${name} is refused`, () => {
      const expected = { name: 'ConvoyError', code: 'untrusted_peer', message: /tar header/ };
      assert.throws(() => decode(rawHeader(fields)), expected);
      assert.throws(() => new Collector().push(rawHeader(fields)), expected);
    });
  }

  test('an end of archive is refused: a COPY stream has none', () => {
    assert.throws(() => new Collector().push(Buffer.alloc(512)), { code: 'untrusted_peer' });
  });

  test('a flipped bit anywhere is noticed', () => {
    const header = rawHeader({ name: 'base/1/112', size: '00000020000\0', mtime: '14524770400\0' });
    for (let bit = 0; bit < header.length * 8; bit += 1) {
      const damaged = Buffer.from(header);
      damaged[bit >> 3] = (damaged[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      const checksumField = bit >> 3 >= 148 && bit >> 3 < 156;
      // the checksum's own padding may change without changing its value
      if (!checksumField) assert.throws(() => decode(damaged), { code: 'untrusted_peer' }, `bit ${bit}`);
    }
  });
});

describe('a stream that is cut short', () => {
  test('is noticed wherever it ends inside a member', async () => {
    const stream = await tarOf([entry('a', Buffer.alloc(700, 1)), entry('b', Buffer.alloc(0))]);
    const whole = new Set([0, 512 + 1024, stream.length]);
    for (let at = 0; at <= stream.length; at += 1) {
      const { reader } = new Collector().push(stream.subarray(0, at));
      if (whole.has(at)) reader.finish();
      else assert.throws(() => reader.finish(), { code: 'untrusted_peer', message: /ended inside a member/ });
    }
  });

  test('a handler that throws ends the reading there', () => {
    const failure = new Error('no space');
    const reader = new TarMemberReader({
      begin: () => {
        throw failure;
      },
      data: () => undefined,
      end: () => {},
    });
    assert.throws(() => reader.push(rawHeader({})), failure);
  });

  test('garbage gives an error or nothing, never a wait', () => {
    const random = new SeededRandom(32);
    for (let round = 0; round < 500; round += 1) {
      const garbage = random.bytes(random.below(1500));
      try {
        const { members } = new Collector().push(...random.split(garbage, 700));
        assert.deepEqual(members, []);
      } catch (error) {
        assert.equal((error as { code?: string }).code, 'untrusted_peer');
      }
    }
  });
});
