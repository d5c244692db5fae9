/* File systems that are soon full, for tests of targets: a tmpfs, which takes the right to mount. */
import * as fs from 'node:fs/promises';
import path from 'node:path';
import type { TestContext } from 'node:test';
import { cleanup, temporaryDirectory } from './cleanup.js';
import { run } from './tools.js';

/** A file system of this size; where it cannot be made, marks the test as skipped. */
export async function smallDisk(t: TestContext, bytes: number): Promise<string | undefined> {
  const disk = path.join(await temporaryDirectory(t), 'disk');
  await fs.mkdir(disk);
  const mounted = await run('mount', [
    '-t',
    'tmpfs',
    '-o',
    `size=${Math.ceil(bytes / 1024)}k`,
    'pgconvoy-test',
    disk,
  ]).catch((error: unknown) => ({ status: null, stderr: String(error) }));
  if (mounted.status === 0) {
    cleanup(t, async () => {
      await run('umount', [disk]);
    });
    return disk;
  }
  t.skip(`a small file system cannot be mounted here: ${mounted.stderr.split('\n', 1)[0]}`);
  return undefined;
}

/** What a copy of a data directory without WAL takes on a tmpfs, which counts in pages of 4 kB. */
export async function blocksOf(dataDirectory: string): Promise<number> {
  let bytes = 0;
  for (const entry of await fs.readdir(dataDirectory, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile() || entry.parentPath.includes('/pg_wal')) continue;
    const { size } = await fs.stat(path.join(entry.parentPath, entry.name));
    bytes += Math.ceil(size / 4096) * 4096;
  }
  return bytes;
}
