import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import * as fs from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { COMPRESSION_METHODS } from '../../src/target/compression/compression.js';
import { TarFileWriter } from '../../src/target/tar-file-writer.js';
import { filesInArchive } from '../support/base-backup.js';
import { temporaryDirectory } from '../support/cleanup.js';
import { SeededRandom } from '../support/seeded-random.js';

const MEMBER = { type: 'file', mode: 0o600, mtime: 1_700_000_000 } as const;

for (const method of COMPRESSION_METHODS) {
  test(`members one after the other make an archive: ${method}`, async (t) => {
    if (method !== 'none' && spawnSync(method, ['--version']).status !== 0)
      return t.skip(`${method} is not installed`);
    const file = path.join(await temporaryDirectory(t), 'pg_wal.tar');
    const writer = new TarFileWriter({ path: file, mode: 0o640, compression: { method, level: undefined } });
    const random = new SeededRandom(1);
    const contents = [random.bytes(3_000_000), Buffer.alloc(16 * 2 ** 20), Buffer.alloc(0), random.bytes(1)];
    for (const [index, content] of contents.entries()) {
      writer.begin({ ...MEMBER, name: `segment-${index}`, size: content.length });
      for (let at = 0; at < content.length; at += 100_001) {
        const lent = Buffer.from(content.subarray(at, at + 100_001));
        await writer.write(lent);
        lent.fill(0xff);
      }
      writer.end();
    }
    await writer.finish(true);
    assert.equal((await fs.stat(file)).mode & 0o777, 0o640);
    const archive =
      method === 'none'
        ? await fs.readFile(file)
        : execFileSync(method, ['-d', '-c'], { input: await fs.readFile(file), maxBuffer: 2 ** 30 });
    const members = await filesInArchive(archive);
    assert.deepEqual(
      members.map(({ name, size, mode }) => ({ name, size, mode })),
      contents.map(({ length }, index) => ({ name: `segment-${index}`, size: length, mode: 0o600 })),
    );
    for (const [index, { content }] of members.entries()) assert.ok(contents[index]?.equals(content));
  });
}

test('what is in the way is refused', async (t) => {
  const file = path.join(await temporaryDirectory(t), 'pg_wal.tar');
  await fs.writeFile(file, 'mine');
  const compression = { method: 'none', level: undefined } as const;
  assert.throws(() => new TarFileWriter({ path: file, mode: 0o600, compression }), {
    code: 'target_io',
    message: `could not create file "${file}": File exists`,
  });
  assert.equal(await fs.readFile(file, 'utf8'), 'mine');
});
