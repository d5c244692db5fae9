/* Writing to archives beside a thread that goes on, past the page cache where the file system takes it. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { constants } from 'node:os';
import * as fs from 'node:fs/promises';
import path from 'node:path';
import { test, type TestContext } from 'node:test';
import { promisify } from 'node:util';
import { ArchiveFile } from '../../src/target/archive-file.js';
import { ArchiveState, createArchiveState } from '../../src/target/archive-state.js';
import { BlockWrites } from '../../src/target/block-writes.js';
import { GatheredWriter } from '../../src/target/gathered-writer.js';
import { allocatePages } from '../../src/wasm-memory.js';
import { cleanup, temporaryDirectory } from '../support/cleanup.js';
import { SeededRandom } from '../support/seeded-random.js';
import { smallDisk, smallExt4 } from '../support/small-disk.js';

const MiB = 1024 * 1024;
const STATE_MODULE = new URL('../../src/target/archive-state.js', import.meta.url).href;
/** Where the second archive's turns are counted. */
const ARCHIVE = 1;

const DISKS = { ext4: smallExt4, tmpfs: smallDisk };

interface Opened {
  readonly file: ArchiveFile;
  readonly path: string;
  readonly state: ArchiveState;
}

async function openOn(t: TestContext, disk: string): Promise<Opened> {
  const archive = path.join(disk, 'base.tar');
  await fs.writeFile(archive, '');
  const state = new ArchiveState(createArchiveState(2, 0), 2);
  const file = new ArchiveFile(archive, state, ARCHIVE);
  cleanup(t, () => {
    file.close();
  });
  return { file, path: archive, state };
}

for (const [name, make] of Object.entries(DISKS)) {
  test(`what threads write side by side, at any place, is in the archive: ${name}`, async (t) => {
    const disk = await make(t, 96 * MiB);
    if (disk === undefined) return;
    const { file, path: archive, state } = await openOn(t, disk);
    assert.equal(file.isDirect, name === 'ext4');
    const other = new ArchiveFile(archive, state, ARCHIVE);
    const random = new SeededRandom(7);
    const expected = Buffer.alloc(40 * MiB, random.bytes(100_003));
    const threads = [file, other].map((one) => ({ file: one, writes: new BlockWrites() }));
    // parts that share units with their neighbours, some too small to be written aside, one larger than all blocks
    const sizes = [20 * MiB + 511, 512, 5 * MiB - 512, 4096, 100_000, 70_001, 8704, MiB];
    let place = 0;
    for (let turn = 0; place < expected.length; turn += 1) {
      const end = Math.min(expected.length, place + (sizes[turn % sizes.length] ?? 1));
      const thread = threads[turn % 2];
      if (thread === undefined) throw new TypeError('no thread');
      const writer = new GatheredWriter(thread.file, thread.writes, place);
      for (const piece of random.split(expected.subarray(place, end), 600_000)) {
        await writer.write(piece);
      }
      writer.flush();
      place = end;
    }
    await file.settle();
    for (const { writes } of threads) await writes.settle();
    other.close();
    assert.ok((await fs.readFile(archive)).equals(expected));
  });

  test(`whoever does not wait for room loses nothing: ${name}`, async (t) => {
    const disk = await make(t, 96 * MiB);
    if (disk === undefined) return;
    const { file, path: archive } = await openOn(t, disk);
    const expected = Buffer.alloc(50 * MiB, new SeededRandom(8).bytes(99_991));
    const writer = new GatheredWriter(file, new BlockWrites(), 513);
    for (let at = 0; at < expected.length; at += MiB) void writer.write(expected.subarray(at, at + MiB));
    writer.flush();
    await file.settle();
    assert.ok((await fs.readFile(archive)).subarray(513).equals(expected));
  });
}

test('where the disk refuses what lies askew, the page cache takes it', async (t) => {
  const disk = await smallExt4(t, 32 * MiB);
  if (disk === undefined) return;
  const { file, path: archive } = await openOn(t, disk);
  const memory = allocatePages(MiB);
  if (memory === undefined) throw new TypeError('no memory');
  const askew = Buffer.from(memory, 1, MiB - 1).fill('askew');
  await file.writeAside(askew, 8192);
  assert.ok((await fs.readFile(archive)).subarray(8192).equals(askew));
});

test('a disk that is full is named, to the thread that wrote and to whoever waits for all', async (t) => {
  const disk = await smallExt4(t, 8 * MiB);
  if (disk === undefined) return;
  const { file, path: archive } = await openOn(t, disk);
  const writes = new BlockWrites();
  const writer = new GatheredWriter(file, writes, 0);
  const expected = {
    code: 'target_io',
    message: `could not write file "${archive}": No space left on device`,
  };
  const chunk = Buffer.alloc(MiB, 'x');
  await assert.rejects(async () => {
    for (let turn = 0; turn < 64; turn += 1) await writer.write(chunk);
  }, expected);
  await assert.rejects(file.settle(), expected);
  await assert.rejects(writes.settle(), expected);
});

test('a file is closed once what is under way is written', async (t) => {
  const disk = await smallExt4(t, 32 * MiB);
  if (disk === undefined) return;
  const { file, path: archive } = await openOn(t, disk);
  const memory = allocatePages(4 * MiB);
  if (memory === undefined) throw new TypeError('no memory');
  const bytes = Buffer.from(memory, 100).fill('under way');
  const written = file.writeAside(bytes, 100);
  file.close();
  await written;
  assert.ok((await fs.readFile(archive)).subarray(100).equals(bytes));
});

test('whoever waits for a write that nobody will end is set free when the archive is given up', async (t) => {
  const { file, state } = await openOn(t, await temporaryDirectory(t));
  // by a thread that is gone
  state.beginAside(ARCHIVE);
  const settled = file.settle();
  file.close();
  await assert.rejects(settled, { code: 'cancelled', message: 'the archive was given up' });
});

test('a process that only waits for the writes of a thread goes on when they have ended', async () => {
  const thread = `
    const { workerData } = require('node:worker_threads');
    import(${JSON.stringify(STATE_MODULE)}).then(({ ArchiveState }) => {
      setTimeout(() => new ArchiveState(workerData, 2).endAside(1, 5), 300);
    });`;
  const code = `
    const { Worker } = require('node:worker_threads');
    import(${JSON.stringify(STATE_MODULE)}).then(async ({ ArchiveState, createArchiveState }) => {
      const memory = createArchiveState(2, 0);
      const state = new ArchiveState(memory, 2);
      state.beginAside(1);
      // as idle threads of a pool are
      new Worker(${JSON.stringify(thread)}, { eval: true, workerData: memory }).unref();
      console.log(await state.settled(1));
    });`;
  const { stdout } = await promisify(execFile)(process.execPath, ['-e', code]);
  assert.equal(stdout, '5\n');
});

test('the first failure of any thread is kept, and nobody waits who need not', async () => {
  const memory = createArchiveState(2, 0);
  const [mine, others] = [new ArchiveState(memory, 2), new ArchiveState(memory, 2)];
  others.beginAside(ARCHIVE);
  others.beginAside(ARCHIVE);
  assert.equal(await mine.settled(0), 0);
  const settled = mine.settled(ARCHIVE);
  others.endAside(ARCHIVE, constants.errno.ENOSPC);
  others.endAside(ARCHIVE, constants.errno.EIO);
  assert.equal(await settled, constants.errno.ENOSPC);
});
