/*
 * Unpacks the archives of a backup with GNU tar, and gzip, lz4 and zstd themselves, into what a plain backup would be: the
 * tablespaces in directories of their own, linked from pg_tblspc, the manifest beside the data.
 */
import assert from 'node:assert/strict';
import * as fs from 'node:fs/promises';
import path from 'node:path';
import type { TestContext } from 'node:test';
import { parseTablespaceMap } from '../../src/pgdata/tablespace-map.js';
import { temporaryDirectory } from './cleanup.js';
import { archiveVerifier, run } from './tools.js';

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

/** The archives are judged by pg_verifybackup, tested by their own program, then unpacked. */
export async function extractArchives(t: TestContext, directory: string): Promise<ExtractedBackup> {
  await verifyArchives(t, directory);
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

async function verifyArchives(t: TestContext, directory: string): Promise<void> {
  const command = archiveVerifier();
  if (command === undefined) {
    t.diagnostic('no pg_verifybackup of PostgreSQL 18 is here: it has not read the archives themselves');
    return;
  }
  // it cannot read WAL in archives
  const { status, stdout, stderr } = await run(command, ['-n', directory]);
  assert.deepEqual([status, stderr], [0, ''], `pg_verifybackup 18: ${stdout}`);
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
