import assert from 'node:assert/strict';
import * as fs from 'node:fs/promises';
import path from 'node:path';
import { describe, test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { once } from 'node:events';
import { crc32c } from '@node-rs/crc32';
import { createArchiveState } from '../../src/target/archive-state.js';
import { archivePath, memberPlace } from '../../src/target/archive-layout.js';
import { ArchiveTarget } from '../../src/target/archive-target.js';
import type { Compression } from '../../src/target/compression/compression.js';
import { openTarget } from '../../src/target/open-target.js';
import type { ArchiveTargetSpec } from '../../src/target/target.js';
import { targetContract } from '../contract/target-contract.js';
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

/** The members of an archive, complete or not yet; none is there twice. */
async function membersOf(spec: ArchiveTargetSpec, archive: number): Promise<Map<string, BackedUpFile>> {
  const bytes = await fs.readFile(archivePath(spec, archive));
  const members = await filesInArchive(Buffer.concat([bytes, Buffer.alloc(1024 + (-bytes.length & 511))]));
  assert.equal(new Set(members.map(({ name }) => name)).size, members.length, 'no member is there twice');
  return new Map(members.map((member) => [member.name, member]));
}

targetContract('uncompressed archives', async (t) => {
  const spec = await makeSpec(t, { method: 'none', level: undefined });
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
});

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
          const size = (file * 7919) % 30011;
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
      assert.ok(content?.equals(Buffer.alloc(((slot % 300) * 7919) % 30_011, slot)), String(slot));
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
