/* File systems that are soon full, for tests of targets: a tmpfs, or ext4 in a file; both take the right to mount. */
import * as fs from 'node:fs/promises';
import path from 'node:path';
import type { TestContext } from 'node:test';
import { cleanup, temporaryDirectory } from './cleanup.js';
import { run } from './tools.js';

/** A tmpfs of this size; where it cannot be made, marks the test as skipped. */
export async function smallDisk(t: TestContext, bytes: number): Promise<string | undefined> {
  return await mount(t, ['-t', 'tmpfs', '-o', `size=${Math.ceil(bytes / 1024)}k`, 'pgconvoy-test']);
}

/** An ext4 of about this size, which archives are written to past the page cache; where it cannot be made, as smallDisk(). */
export async function smallExt4(t: TestContext, bytes: number): Promise<string | undefined> {
  const image = path.join(await temporaryDirectory(t), 'image');
  await fs.writeFile(image, '');
  await fs.truncate(image, bytes);
  const made = await run('mkfs.ext4', ['-q', image]).catch(failedToRun);
  if (made.status === 0) return await mount(t, ['-o', 'loop', image]);
  t.skip(`an ext4 cannot be made here: ${made.stderr.split('\n', 1)[0]}`);
  return undefined;
}

async function mount(t: TestContext, what: readonly string[]): Promise<string | undefined> {
  const disk = path.join(await temporaryDirectory(t), 'disk');
  await fs.mkdir(disk);
  const mounted = await run('mount', [...what, disk]).catch(failedToRun);
  if (mounted.status === 0) {
    cleanup(t, async () => {
      await run('umount', [disk]);
    });
    return disk;
  }
  t.skip(`a small file system cannot be mounted here: ${mounted.stderr.split('\n', 1)[0]}`);
  return undefined;
}

function failedToRun(error: unknown): { status: null; stderr: string } {
  return { status: null, stderr: String(error) };
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
