/* Which files are checked, and the files of real clusters: what is damaged is what PostgreSQL itself says is damaged. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, test } from 'node:test';

import type { EmbeddedServer } from '../../src/demo/embedded-server.js';
import { PAGE_BYTES, SEGMENT_PAGES } from '../../src/limits.js';
import type { Lsn } from '../../src/lsn.js';
import { parseLsn } from '../../src/lsn.js';
import { PageMemory } from '../../src/pgdata/page-checksum.js';
import type { PageVerification } from '../../src/pgdata/page-verifier.js';
import { checksummedSegment, SegmentVerifier, verificationWarnings } from '../../src/pgdata/page-verifier.js';
import type { TestScope } from '../support/cleanup.js';
import type { Major } from '../support/postgres.js';
import { connect, sql, testServer } from '../support/postgres.js';
import { requireTool, run } from '../support/tools.js';

const CHECKSUMMED: readonly (readonly [path: string, segmentNumber: number])[] = [
  ['global/1262', 0],
  ['./global/1262_fsm', 0],
  ['base/5/16384', 0],
  ['./base/5/16384.1', 1],
  ['base/5/16384_vm', 0],
  ['base/5/16384_init', 0],
  ['base/5/16384_fsm.12', 12],
  ['base/5/4294967295.4294967295', 4_294_967_295],
  ['pg_tblspc/16385/PG_15_202209061/5/16390.2', 2],
  ['./pg_tblspc/16385/PG_15_202209061/5/16390', 0],
  ['PG_12_201909212/16385/16418_init', 0],
  ['/srv/new\nline/PG_18_202506291/5/16390.7', 7],
  ['somewhere/inside/PG_18_202506291/5/16390', 0],
];

const NOT_CHECKSUMMED: readonly string[] = [
  'global/pg_control',
  'global/pg_filenode.map',
  'global/pg_internal.init',
  'base/5/pg_internal.init.1234',
  'base/5/PG_VERSION',
  'base/5/t3_16390',
  'base/5/t3_16390.1',
  'base/5/notes.txt',
  'base/5/16384.txt',
  'base/5/16384.0',
  'base/5/16384.01',
  'base/5/16384.',
  'base/5/16384.1.2',
  'base/5/16384_',
  'base/5/16384_foo',
  'base/5/16384_initial',
  'base/5/016384',
  'base/5/0',
  'base/5/4294967296',
  'base/5/16384.4294967296',
  'base/5/16384\n',
  'base/5/INCREMENTAL.16384',
  'base/16384',
  'base/5/6/16384',
  'base/pgsql_tmp/16384',
  'global/5/16384',
  'pg_xact/0000',
  'pg_multixact/offsets/1234',
  'pg_wal/000000010000000000000001',
  'pg_tblspc/16385',
  'pg_tblspc/16385/PG_15_202209061',
  'pg_tblspc/16385/PG_15_202209061/16390',
  'PG_VERSION',
  '16384',
  'mybase/5/16384',
  'x/global/1262',
  '/srv/NOT_PG_15_202209061x/5/16384',
  'notPG_15_202209061/5/16384',
  '',
];

describe('checksummedSegment', () => {
  for (const [path, segmentNumber] of CHECKSUMMED) {
    test(`${JSON.stringify(path)} is segment ${segmentNumber}`, () => {
      assert.deepEqual(checksummedSegment(path), { segmentNumber });
    });
  }
  for (const path of NOT_CHECKSUMMED) {
    test(`${JSON.stringify(path)} has no page checksums`, () => {
      assert.equal(checksummedSegment(path), undefined);
    });
  }
});

const CHUNK_BYTES = 16 * PAGE_BYTES;

function lsn(text: string): Lsn {
  const parsed = parseLsn(text);
  assert.ok(parsed !== undefined);
  return parsed;
}

const EVERY_LSN = lsn('FFFFFFFF/FFFFFFFF');

/** Checks content as a segment file, chunk by chunk, as a copy does; every suspect counts. */
function verify(content: Buffer, segmentNumber: number, startLsn: Lsn = EVERY_LSN): PageVerification {
  const memory = PageMemory.create({ bufferCount: 1, bufferBytes: CHUNK_BYTES });
  const verifier = new SegmentVerifier(memory, { segmentNumber }, startLsn);
  for (let offset = 0; offset < content.byteLength; offset += CHUNK_BYTES) {
    const length = content.copy(memory.buffer(0), 0, offset);
    verifier.record(verifier.findSuspects(memory.buffer(0).subarray(0, length), offset));
  }
  return verifier.verification;
}

/** A stopped cluster with page checksums, tables with every fork, and a tablespace beside the data directory. */
async function stoppedCluster(t: TestScope, major: Major): Promise<StoppedCluster> {
  const server = await testServer(t, { major, dataChecksums: true });
  const tablespace = await server.makeDirectory(join(dirname(server.dataDirectory), 'side'));
  await sql(server, `create tablespace side location '${tablespace}'`);
  await sql(
    server,
    `create table plain as select g as id, repeat('x', 100) as filler from generate_series(1, 20000) g;
     create index on plain (id);
     create table elsewhere tablespace side as select g as id from generate_series(1, 1000) g;
     create unlogged table unlogged (a int primary key)`,
  );
  await sql(server, 'vacuum plain');
  const [row] = await sql<{ path: string }>(server, `select pg_relation_filepath('plain') as path`);
  assert.ok(row !== undefined);
  await server.stop();
  return { server, tablespace, relation: row.path };
}

interface StoppedCluster {
  readonly server: EmbeddedServer;
  readonly tablespace: string;
  /** Path of the table `plain` below the data directory. */
  readonly relation: string;
}

/** Every file of a directory, by its path from there. */
function* filesBelow(root: string, below = ''): Generator<{ path: string; content: Buffer }> {
  for (const entry of readdirSync(join(root, below), { withFileTypes: true })) {
    const path = join(below, entry.name);
    if (entry.isDirectory()) yield* filesBelow(root, path);
    else if (entry.isFile()) yield { path, content: readFileSync(join(root, path)) };
  }
}

function countNewPages(content: Buffer): number {
  let count = 0;
  for (let page = 0; page < content.byteLength; page += PAGE_BYTES) {
    if (content.readUInt16LE(page + 14) === 0) count++;
  }
  return count;
}

for (const major of [13, 15, 18] as const) {
  test(`every page of a stopped cluster of PostgreSQL ${major} is good, and wrong as another block`, async (t) => {
    const { server, tablespace } = await stoppedCluster(t, major);
    const checked: string[] = [];
    let pageCount = 0;
    for (const { path, content } of [...filesBelow(server.dataDirectory), ...filesBelow(tablespace)]) {
      const segment = checksummedSegment(path);
      if (segment === undefined) continue;
      checked.push(path);
      const written = content.byteLength / PAGE_BYTES - countNewPages(content);
      pageCount += written;
      assert.deepEqual(verify(content, segment.segmentNumber), { badPageCount: 0, badPages: [] }, path);
      assert.equal(verify(content, segment.segmentNumber + 1).badPageCount, written, path);
      assert.equal(verify(content, segment.segmentNumber + 1, lsn('0/0')).badPageCount, 0, path);
    }
    assert.ok(pageCount > 1000);
    const kinds = [/^global\/1262$/, /^base\/\d+\/\d+_fsm$/, /_vm$/, /_init$/, /^PG_\d+_\d+\/\d+\/\d+$/];
    for (const kind of kinds) assert.ok(checked.filter((path) => kind.test(path)).length > 0, String(kind));
  });
}

const DAMAGED_BLOCKS = [0, 3, 40, 99, 100, 101, 250];

/** Flips one bit in each of some blocks of a table and says what the verifier makes of it. */
async function damagedTable(
  t: TestScope,
): Promise<{ server: EmbeddedServer; verification: PageVerification }> {
  const { server, relation } = await stoppedCluster(t, 15);
  const file = join(server.dataDirectory, relation);
  const content = readFileSync(file);
  for (const [index, block] of DAMAGED_BLOCKS.entries()) {
    // Line pointers, free space, rows, and once the stored checksum itself.
    const offset = block * PAGE_BYTES + (index === 2 ? 8 : 32 + index * 1300);
    content.writeUInt8(content.readUInt8(offset) ^ 0x04, offset);
  }
  writeFileSync(file, content);
  const verification = verify(content, 0);
  assert.equal(verification.badPageCount, DAMAGED_BLOCKS.length);
  assert.deepEqual(
    verification.badPages.map(({ block }) => block),
    DAMAGED_BLOCKS.slice(0, 5),
  );
  return { server, verification };
}

test('the bad pages of a damaged table are those of a server that reads it', async (t) => {
  const { server, verification } = await damagedTable(t);
  await server.start();
  const client = await connect(server);
  const warnings: string[] = [];
  client.on('notice', (notice) => warnings.push(notice.message ?? ''));
  try {
    // Reads on past a bad page, as zeroes, with one warning about the checksum and one about the block.
    await client.query('set zero_damaged_pages = on');
    await client.query('select sum(length(filler)) from plain');
  } finally {
    await client.end();
  }
  const seen = warnings
    .join('\n')
    .matchAll(/calculated checksum (\d+) but expected (\d+)\n.*invalid page in block (\d+)/g);
  const byServer = Array.from(seen, ([, calculated, expected, block]) => ({
    block: Number(block),
    expected: Number(expected),
    calculated: Number(calculated),
  }));
  assert.equal(byServer.length, DAMAGED_BLOCKS.length, warnings.join('\n'));
  assert.deepEqual(byServer.slice(0, 5), verification.badPages);
});

test('the bad pages of a damaged table are those of pg_checksums --check', async (t) => {
  const pgChecksums = requireTool(t, 'pg_checksums');
  if (pgChecksums === undefined) return;
  const { server, verification } = await damagedTable(t);
  const { status, stderr } = await run(pgChecksums, ['--check', '-D', server.dataDirectory]);
  assert.equal(status, 1);
  const seen = stderr.matchAll(
    /block (\d+): calculated checksum ([0-9A-F]+) but block contains ([0-9A-F]+)/g,
  );
  const byTool = Array.from(seen, ([, block, calculated, expected]) => ({
    block: Number(block),
    expected: parseInt(expected ?? '', 16),
    calculated: parseInt(calculated ?? '', 16),
  }));
  assert.equal(byTool.length, DAMAGED_BLOCKS.length, stderr);
  assert.deepEqual(byTool.slice(0, 5), verification.badPages);
});

function chunkPages(chunk: Buffer, first: number, count: number): Buffer {
  return chunk.subarray(first * PAGE_BYTES, (first + count) * PAGE_BYTES);
}

describe('SegmentVerifier', () => {
  // A page of 0x55 has the wrong checksum, and a page of zeroes is new and so never bad.
  const BAD = 0x55;
  const segment = { segmentNumber: 2 };
  const firstBlock = 2 * SEGMENT_PAGES;

  function start(pageCount: number): { chunk: Buffer; verifier: SegmentVerifier } {
    const memory = PageMemory.create({ bufferCount: 1, bufferBytes: pageCount * PAGE_BYTES });
    return { chunk: memory.buffer(0), verifier: new SegmentVerifier(memory, segment, EVERY_LSN) };
  }

  test('a suspect counts only when it is bad again, and its new content takes its place in the chunk', async () => {
    const { chunk, verifier } = start(4);
    chunkPages(chunk, 1, 2).fill(BAD);
    const suspects = verifier.findSuspects(chunk, 8 * PAGE_BYTES);
    assert.deepEqual(
      suspects.map(({ block }) => block),
      [firstBlock + 9, firstBlock + 10],
    );
    assert.equal(verifier.verification.badPageCount, 0);

    const asked: number[] = [];
    const validBytes = await verifier.recheck(chunk, 8 * PAGE_BYTES, suspects, async (page, fileOffset) => {
      asked.push(fileOffset / PAGE_BYTES);
      page.fill(fileOffset === 9 * PAGE_BYTES ? 0 : BAD);
      return page.byteLength;
    });

    assert.equal(validBytes, chunk.byteLength);
    assert.deepEqual(asked, [9, 10]);
    assert.ok(chunkPages(chunk, 1, 1).every((byte) => byte === 0));
    assert.deepEqual(verifier.verification, { badPageCount: 1, badPages: [suspects[1]] });
  });

  for (const readBytes of [0, 100]) {
    test(`a file that has only ${readBytes} bytes left of a suspect page ends the chunk there`, async () => {
      const { chunk, verifier } = start(4);
      chunkPages(chunk, 1, 3).fill(BAD);
      const suspects = verifier.findSuspects(chunk, 0);
      const validBytes = await verifier.recheck(chunk, 0, suspects, async (page, fileOffset) =>
        fileOffset === PAGE_BYTES ? page.byteLength : readBytes,
      );
      assert.equal(validBytes, 2 * PAGE_BYTES);
      assert.equal(verifier.verification.badPageCount, 1);
    });
  }

  test('a failure to read again is the caller’s error', async () => {
    const { chunk, verifier } = start(1);
    chunk.fill(BAD);
    const suspects = verifier.findSuspects(chunk, 0);
    const failing = verifier.recheck(chunk, 0, suspects, () => Promise.reject(new Error('disk on fire')));
    await assert.rejects(failing, /disk on fire/);
  });

  test('after a part page nothing more is checked', () => {
    const { chunk, verifier } = start(4);
    chunk.fill(BAD);
    const readBytes = 2 * PAGE_BYTES + 10;
    assert.equal(verifier.findSuspects(chunk.subarray(0, readBytes), 4 * PAGE_BYTES).length, 2);
    assert.deepEqual(verifier.findSuspects(chunk, 4 * PAGE_BYTES + readBytes), []);
    assert.deepEqual(verifier.verification, {
      badPageCount: 0,
      badPages: [],
      unverifiedFrom: { block: firstBlock + 6, readBytes },
    });
  });

  test('a chunk must begin where a page does', () => {
    const { chunk, verifier } = start(1);
    assert.throws(() => verifier.findSuspects(chunk, 100), RangeError);
  });

  test('block numbers wrap as BlockNumber does', () => {
    const memory = PageMemory.create({ bufferCount: 1, bufferBytes: PAGE_BYTES });
    const verifier = new SegmentVerifier(memory, { segmentNumber: 32_769 }, EVERY_LSN);
    const [suspect] = verifier.findSuspects(memory.buffer(0).fill(BAD), 3 * PAGE_BYTES);
    assert.equal(suspect?.block, SEGMENT_PAGES + 3);
  });
});

// The wording is that of read_file_data_into_buffer() and sendFile() in basebackup.c.
test('warnings are worded as the server words them', () => {
  const page = { block: 131_075, expected: 0x00af, calculated: 0xc0de };
  const first =
    'checksum verification failed in file "base/5/16384.1", block 131075: calculated C0DE but expected AF';
  const path = 'base/5/16384.1';
  const further = `further checksum verification failures in file "${path}" will not be reported`;

  assert.deepEqual(verificationWarnings(path, { badPageCount: 0, badPages: [] }), []);
  assert.deepEqual(verificationWarnings(path, { badPageCount: 1, badPages: [page] }), [first]);
  assert.deepEqual(verificationWarnings(path, { badPageCount: 2, badPages: [page, page] }), [
    first,
    first,
    `file "${path}" has a total of 2 checksum verification failures`,
  ]);
  const five = [page, page, page, page, page];
  assert.deepEqual(verificationWarnings(path, { badPageCount: 7, badPages: five }), [
    ...five.map(() => first),
    further,
    `file "${path}" has a total of 7 checksum verification failures`,
  ]);
  const cut = { badPageCount: 0, badPages: [], unverifiedFrom: { block: 131_074, readBytes: 20_000 } };
  assert.deepEqual(verificationWarnings(path, cut), [
    `could not verify checksum in file "${path}", block 131074: read buffer size 20000 and page size 8192 differ`,
  ]);
});
