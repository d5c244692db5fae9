/*
 * Unpacks the archives of a backup with GNU tar, and gzip, lz4 and zstd themselves, into what a plain backup would be: the
 * tablespaces in directories of their own, linked from pg_tblspc, the manifest beside the data.
 */
import assert from 'node:assert/strict';
import * as fs from 'node:fs/promises';
import path from 'node:path';
import { parseTablespaceMap } from '../../src/pgdata/tablespace-map.js';
import { temporaryDirectory, type TestScope } from './cleanup.js';
import { run } from './tools.js';

export interface ExtractedBackup {
  readonly dir: string;
  /** Directories of the tablespaces. */
  readonly tablespaces: readonly string[];
}

/** What unpacks an archive, by the end of its name. */
const PROGRAMS: Readonly<Record<string, string | undefined>> = {
  '.tar': undefined,
  '.gz': 'gzip',
  '.lz4': 'lz4',
  '.zst': 'zstd',
};

/** True where the machine has what unpacks archives with this ending. */
export async function canUnpack(ending: string): Promise<boolean> {
  const program = PROGRAMS[ending];
  if (program === undefined) return true;
  const found = await run(program, ['--version']).catch(() => undefined);
  return found?.status === 0;
}

/** The archives are tested by their own program, then unpacked. */
export async function extractArchives(t: TestScope, directory: string): Promise<ExtractedBackup> {
  const parent = await temporaryDirectory(t);
  const dir = path.join(parent, 'data');
  // the data directory before the WAL that belongs into it
  const names = (await fs.readdir(directory)).filter((name) => name.includes('.tar')).toSorted();
  const spaces = new Map<string, string>();
  for (const name of names) {
    const stem = name.slice(0, name.indexOf('.tar'));
    if (stem === 'pg_wal') {
      await extract(path.join(directory, name), path.join(dir, stem));
      continue;
    }
    const target = stem === 'base' ? dir : path.join(parent, `space-${stem}`);
    if (stem !== 'base') spaces.set(stem, target);
    await fs.mkdir(target, { mode: 0o700 });
    await extract(path.join(directory, name), target);
  }
  for (const [oid, target] of spaces) await fs.symlink(target, path.join(dir, 'pg_tblspc', oid));
  await fs.copyFile(path.join(directory, 'backup_manifest'), path.join(dir, 'backup_manifest'));
  return { dir, tablespaces: [...spaces.values()] };
}

async function extract(archive: string, target: string): Promise<void> {
  const program = PROGRAMS[path.extname(archive)];
  if (program !== undefined) {
    const tested = await run(program, ['-t', archive]);
    assert.equal(tested.status, 0, `${program} -t: ${tested.stderr}`);
  }
  const unpack = program === undefined ? [] : [`--use-compress-program=${program}`];
  const unpacked = await run('tar', [...unpack, '-x', '-p', '-f', archive, '-C', target]);
  assert.deepEqual([unpacked.status, unpacked.stderr], [0, ''], `tar -x ${archive}`);
}

/** PostgreSQL makes the links that tablespace_map names: lets it name the unpacked directories, not the origin's. */
export async function remapTablespaces({ dir }: ExtractedBackup): Promise<void> {
  const map = path.join(dir, 'tablespace_map');
  const text = await fs.readFile(map, 'utf8').catch(() => '');
  if (text === '') return;
  const lines = await Promise.all(
    parseTablespaceMap(text).map(async ({ oid }) => {
      const place = await fs.readlink(path.join(dir, 'pg_tblspc', String(oid)));
      return `${oid} ${place}\n`;
    }),
  );
  await fs.writeFile(map, lines.join(''));
}
