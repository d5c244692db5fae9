import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import * as fs from 'node:fs/promises';
import path from 'node:path';
import { describe, test, type TestContext } from 'node:test';
import { execFileSync, spawnSync } from 'node:child_process';
import { constants, gunzipSync, inflateRawSync } from 'node:zlib';
import { Worker } from 'node:worker_threads';
import { once } from 'node:events';
import { crc32, crc32c } from '@node-rs/crc32';
import { assertNever } from '../../src/assert-never.js';
import { ArchiveState, createArchiveState } from '../../src/target/archive-state.js';
import { archiveCount, archivePath, memberPlace } from '../../src/target/archive-layout.js';
import { ArchiveTarget } from '../../src/target/archive-target.js';
import type { Compression } from '../../src/target/compression/compression.js';
import { openTarget } from '../../src/target/open-target.js';
import type { ArchiveTargetSpec } from '../../src/target/target.js';
import { targetContract, type TargetSetup } from '../contract/target-contract.js';
import { filesInArchive, type BackedUpFile } from '../support/base-backup.js';
import { temporaryDirectory, type TestScope } from '../support/cleanup.js';
import { SeededRandom } from '../support/seeded-random.js';
import { run } from '../support/tools.js';

const TABLESPACES = [16384];
const SLOTS = 100;
const DIRECTORIES = ['base', 'base/1', 'pg_tblspc', 'pg_tblspc/16384/PG_15_202209061'].map((target) => ({
  target,
  mode: 0o700,
}));
const MODES = { directory: 0o700, file: 0o600 };
const FILE = { size: 0, mode: 0o600, mtime: 1_700_000_000 };

async function makeSpec(t: TestScope, compression: Compression): Promise<ArchiveTargetSpec> {
  return {
    kind: 'archive',
    directory: path.join(await temporaryDirectory(t), 'backup'),
    tablespaces: TABLESPACES,
    compression,
    state: createArchiveState(2, SLOTS),
  };
}

/** Decompressed by others: node's zlib, which takes an archive that has no end yet, too, and the programs themselves. */
async function decompressed(spec: ArchiveTargetSpec, archive: number): Promise<Buffer> {
  const file = archivePath(spec, archive);
  // what was committed may be under way
  await new ArchiveState(spec.state, archiveCount(spec)).settled(archive);
  const bytes = await fs.readFile(file);
  switch (spec.compression.method) {
    case 'none':
      return bytes;
    case 'gzip':
      return gunzipSync(bytes, { finishFlush: constants.Z_SYNC_FLUSH });
    case 'lz4':
    case 'zstd':
      return execFileSync(spec.compression.method, ['-d', '-c', file], { maxBuffer: 2 ** 30 });
    default:
      return assertNever(spec.compression.method);
  }
}

/** The members of an archive, complete or not yet; none is there twice. */
async function membersOf(spec: ArchiveTargetSpec, archive: number): Promise<Map<string, BackedUpFile>> {
  const bytes = await decompressed(spec, archive);
  const members = await filesInArchive(Buffer.concat([bytes, Buffer.alloc(1024 + (-bytes.length & 511))]));
  assert.equal(new Set(members.map(({ name }) => name)).size, members.length, 'no member is there twice');
  return new Map(members.map((member) => [member.name, member]));
}

const COMPRESSIONS: readonly Compression[] = [
  { method: 'none', level: undefined },
  { method: 'gzip', level: 1 },
  { method: 'lz4', level: undefined },
  { method: 'zstd', level: undefined },
];
/** Not everywhere are these installed. */
const MISSING = new Set(['lz4', 'zstd'].filter((name) => spawnSync(name, ['--version']).status !== 0));

for (const compression of COMPRESSIONS) {
  const { method } = compression;
  if (MISSING.has(method)) test(`archives with ${method}`, { skip: `${method} is not installed` }, () => {});
  else targetContract(`archives with ${method}`, (t) => prepareArchives(t, compression));
}

async function prepareArchives(t: TestContext, compression: Compression): Promise<TargetSetup> {
  const spec = await makeSpec(t, compression);
  const archives = new ArchiveTarget(spec);
  t.after(() => archives.close());
  await archives.prepare(MODES, DIRECTORIES);
  return {
    target: openTarget(spec),
    read: async (file) => {
      const { archive, name } = memberPlace(spec, file);
      const member = (await membersOf(spec, archive)).get(name);
      return member === undefined
        ? undefined
        : { content: member.content, mode: member.mode, mtime: member.mtime };
    },
  };
}

test('files lie in the archive of their tablespace, by their names there', () => {
  const spec = { tablespaces: [16384, 16400] };
  for (const [name, archive, inside] of [
    ['PG_VERSION', 0, 'PG_VERSION'],
    ['base/1/112', 0, 'base/1/112'],
    ['pg_tblspc', 0, 'pg_tblspc'],
    ['pg_tblspc/16384/PG_15_1/5/1', 1, 'PG_15_1/5/1'],
    ['pg_tblspc/16400/PG_15_1', 2, 'PG_15_1'],
    ['pg_tblspc/16401/PG_15_1/5/1', 0, 'pg_tblspc/16401/PG_15_1/5/1'],
    ['base/pg_tblspc/16384/x', 0, 'base/pg_tblspc/16384/x'],
  ] as const) {
    assert.deepEqual(memberPlace(spec, name), { archive, name: inside });
  }
});

describe('uncompressed archives', () => {
  const compression = { method: 'none', level: undefined } as const;

  test('ranges of a file, written by several, make one member', async (t) => {
    const spec = await makeSpec(t, compression);
    const archives = new ArchiveTarget(spec);
    t.after(() => archives.close());
    await archives.prepare(MODES, DIRECTORIES);
    const content = new SeededRandom(1).bytes(3_000_001);
    const MiB = 2 ** 20;
    // the second part comes first, each from a thread of its own
    for (const [offset, end] of [
      [MiB, 2 * MiB],
      [0, MiB],
      [2 * MiB, content.length],
    ] as const) {
      const part = openTarget(spec).createFile({
        ...FILE,
        path: 'base/1/112',
        size: end - offset,
        offset,
        wholeSize: content.length,
        slot: 7,
      });
      assert.equal(part.size, end - offset);
      await part.write(content.subarray(offset, end));
      part.finish();
    }
    await archives.end();
    const members = await membersOf(spec, 0);
    assert.ok(members.get('base/1/112')?.content.equals(content));
    assert.deepEqual([...members.keys()], ['base', 'base/1', 'pg_tblspc', 'base/1/112']);
    assert.deepEqual([...(await membersOf(spec, 1)).keys()], ['PG_15_202209061']);
  });

  test('many threads fill one archive at once', async (t) => {
    const spec = await makeSpec(t, compression);
    const archives = new ArchiveTarget(spec);
    t.after(() => archives.close());
    await archives.prepare(MODES, DIRECTORIES);
    const module = new URL('../../src/target/open-target.js', import.meta.url).href;
    const code = `
      const { workerData: { spec, thread } } = require('node:worker_threads');
      import(${JSON.stringify(module)}).then(({ openTarget }) => {
        const target = openTarget(spec);
        for (let file = 0; file < 300; file += 1) {
          const size = ((file * 7919) % 30011) * (file % 10 === 0 ? 20 : 1);
          const slot = thread * 300 + file;
          const writer = target.createFile({ path: 'base/1/' + slot, size, mode: 0o600, mtime: 0, slot });
          writer.write(Buffer.alloc(size, slot));
          writer.finish();
        }
      });`;
    const shared = { ...spec, state: createArchiveState(2, 1200) };
    const writers = new ArchiveTarget(shared);
    t.after(() => writers.close());
    const threads = [0, 1, 2, 3].map(
      (thread) => new Worker(code, { eval: true, workerData: { spec: shared, thread } }),
    );
    await Promise.all(threads.map((thread) => once(thread, 'exit')));
    await writers.end();
    const members = await membersOf(spec, 0);
    for (let slot = 0; slot < 1200; slot += 1) {
      const content = members.get(`base/1/${slot}`)?.content;
      const size = (((slot % 300) * 7919) % 30_011) * (slot % 10 === 0 ? 20 : 1);
      assert.ok(content?.equals(Buffer.alloc(size, slot)), String(slot));
    }
  });

  test('what is left of a file that vanished is zeros, and named for the manifest', async (t) => {
    const spec = await makeSpec(t, compression);
    const archives = new ArchiveTarget(spec);
    t.after(() => archives.close());
    await archives.prepare(MODES, DIRECTORIES);
    const target = openTarget(spec);
    const half = target.createFile({ ...FILE, path: 'base/1/half', size: 600_000, slot: 1 });
    await half.write(Buffer.alloc(300_000, 'x'));
    half.abandon();
    assert.equal(archives.heldFile('base/1/never', 2, 'CRC32C'), undefined);
    const held = archives.heldFile('base/1/half', 1, 'CRC32C');
    await archives.end();
    const content = (await membersOf(spec, 0)).get('base/1/half')?.content ?? Buffer.alloc(0);
    assert.equal(content.length, 600_000);
    assert.ok(content.subarray(300_000).every((byte) => byte === 0));
    const crc = Buffer.alloc(4);
    crc.writeUInt32LE(crc32c(content));
    assert.deepEqual(held, { size: 600_000, checksum: crc.toString('hex') });
  });

  test('a file of more than 8 GiB is one member, for GNU tar', async (t) => {
    const spec = await makeSpec(t, compression);
    const archives = new ArchiveTarget(spec);
    t.after(() => archives.close());
    await archives.prepare(MODES, DIRECTORIES);
    const wholeSize = 9 * 2 ** 30 + 5;
    const last = openTarget(spec).createFile({
      ...FILE,
      path: 'base/1/112',
      size: 5,
      offset: wholeSize - 5,
      wholeSize,
      slot: 0,
    });
    await last.write(Buffer.from('large'));
    last.finish();
    const after = openTarget(spec).createFile({ ...FILE, path: 'base/1/113', size: 5, slot: 1 });
    await after.write(Buffer.from('after'));
    after.finish();
    await archives.end();
    const listed = await run('tar', ['-t', '-v', '-f', archivePath(spec, 0)]);
    assert.equal(listed.status, 0, listed.stderr);
    assert.match(listed.stdout, new RegExp(`^-rw------- postgres/postgres ${wholeSize} .* base/1/112$`, 'm'));
    const found = await run('tar', ['-x', '-O', '-f', archivePath(spec, 0), 'base/1/113']);
    assert.equal(found.stdout, 'after');
  });

  test('archives have the mode asked for, whatever the umask, and go with their directory', async (t) => {
    const umask = process.umask(0o077);
    t.after(() => process.umask(umask));
    const spec = await makeSpec(t, compression);
    const archives = new ArchiveTarget(spec);
    t.after(() => archives.close());
    await archives.prepare({ directory: 0o750, file: 0o640 }, DIRECTORIES);
    assert.deepEqual(
      archives.archives.map((file) => path.basename(file)),
      ['base.tar', '16384.tar'],
    );
    for (const archive of archives.archives) assert.equal((await fs.stat(archive)).mode & 0o777, 0o640);
    archives.syncDirectories();
    await archives.remove();
    await assert.rejects(fs.stat(spec.directory ?? ''), { code: 'ENOENT' });
  });
});

describe('compressed archives', () => {
  const MiB = 2 ** 20;

  for (const compression of COMPRESSIONS.slice(1)) {
    const { method } = compression;
    test(`tasks of several threads make one valid archive: ${method}`, async (t) => {
      if (MISSING.has(method)) return t.skip(`${method} is not installed`);
      const spec = await makeSpec(t, compression);
      const archives = new ArchiveTarget(spec);
      t.after(() => archives.close());
      await archives.prepare(MODES, DIRECTORIES);
      const random = new SeededRandom(2);
      // what compresses well and what does not, more than is held in memory
      const contents = [
        random.bytes(20 * MiB + 1),
        Buffer.alloc(30 * MiB, 'x'),
        random.bytes(1),
        random.bytes(5 * MiB),
      ];
      const tasks = contents.map(async (content, slot) => {
        const target = openTarget(spec);
        const file = { ...FILE, path: `base/1/${slot}`, size: content.length, slot };
        const lost = target.createFile(file);
        await lost.write(content.subarray(0, content.length / 2));
        lost.abandon();
        assert.equal(await target.rollback(), true);
        const writer = target.createFile(file);
        for (let at = 0; at < content.length; at += 300_000) {
          await writer.write(content.subarray(at, at + 300_000));
        }
        writer.finish();
        archives.note(await target.commit());
      });
      await Promise.all(tasks);
      await archives.end();
      assert.deepEqual(
        (await fs.readdir(spec.directory ?? '')).toSorted(),
        ['16384', 'base'].map((stem) => path.basename(archivePath(spec, stem === 'base' ? 0 : 1))),
      );
      const members = await membersOf(spec, 0);
      for (const [slot, content] of contents.entries()) {
        assert.ok(members.get(`base/1/${slot}`)?.content.equals(content), String(slot));
      }
      for (const archive of archives.archives) {
        const tested = await run(method, ['-t', archive]);
        assert.deepEqual([tested.status, tested.stdout], [0, ''], tested.stderr);
      }
    });
  }

  test('what was given up gets no end, as if it were complete', async (t) => {
    const spec = await makeSpec(t, { method: 'gzip', level: 1 });
    const archives = new ArchiveTarget(spec);
    await archives.prepare(MODES, DIRECTORIES);
    const writer = archives.files.createFile({ ...FILE, path: 'base/1/1', size: 1 });
    archives.close();
    await writer.write(Buffer.from('x'));
    await assert.rejects(archives.end(), { code: 'cancelled', message: 'the archive was given up' });
  });

  test('parts of files follow each other in their turns, whichever is ready first', async (t) => {
    const spec = await makeSpec(t, { method: 'gzip', level: 1 });
    const archives = new ArchiveTarget(spec);
    t.after(() => archives.close());
    await archives.prepare(MODES, DIRECTORIES);
    const content = new SeededRandom(4).bytes(3 * MiB + 5);
    const wholeSize = content.length;
    const tasks = [3, 1, 0, 2].map(async (turn) => {
      const target = openTarget(spec);
      const offset = turn * MiB;
      const bytes = content.subarray(offset, offset + MiB);
      const part = { ...FILE, path: 'base/1/1', size: bytes.length, offset, wholeSize, slot: 5 };
      const writer = target.createFile(part);
      await writer.write(bytes);
      writer.finish();
      await target.turns?.await(turn);
      assert.equal(target.turns?.hasBegun(5), turn > 0);
      archives.note(await target.commit());
      target.turns?.pass();
    });
    const other = openTarget(spec);
    const writer = other.createFile({ ...FILE, path: 'base/1/2', size: 1, slot: 6 });
    await writer.write(Buffer.from('x'));
    writer.finish();
    await Promise.all(tasks);
    archives.note(await other.commit());
    await archives.end();
    const members = await membersOf(spec, 0);
    assert.ok(members.get('base/1/1')?.content.equals(content));
    assert.equal(String(members.get('base/1/2')?.content), 'x');
    const tested = await run('gzip', ['-t', archivePath(spec, 0)]);
    assert.equal(tested.status, 0, tested.stderr);
  });

  test('gzip archives are one member, whose trailer is right', async (t) => {
    const spec = await makeSpec(t, { method: 'gzip', level: 9 });
    const archives = new ArchiveTarget(spec);
    t.after(() => archives.close());
    await archives.prepare(MODES, DIRECTORIES);
    await archives.end();
    const [bytes, other] = await Promise.all(archives.archives.map((file) => fs.readFile(file)));
    assert.ok(bytes !== undefined && other !== undefined);
    const raw = inflateRawSync(bytes.subarray(10, -8));
    assert.equal(bytes.readUInt32LE(bytes.length - 8), crc32(raw));
    assert.equal(bytes.readUInt32LE(bytes.length - 4), raw.length);
    assert.equal(raw.length, 512 * 3 + 1024);
    assert.equal(gunzipSync(other).length, 512 + 1024);
  });

  test('what cannot be held is named', async (t) => {
    const spec = await makeSpec(t, { method: 'lz4', level: undefined });
    const archives = new ArchiveTarget(spec);
    t.after(() => archives.close());
    await archives.prepare(MODES, DIRECTORIES);
    const target = openTarget(spec);
    await fs.rm(spec.directory ?? '', { recursive: true });
    const writer = target.createFile({ ...FILE, path: 'base/1/1', size: 20 * MiB, slot: 0 });
    const content = randomBytes(20 * MiB);
    await assert.rejects(
      async () => {
        await writer.write(content);
        writer.finish();
        await target.commit();
      },
      { code: 'target_io', message: /^could not write file "[^"]*": No such file or directory$/ },
    );
  });
});
