import assert from 'node:assert/strict';
import * as fs from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { findBackup } from '../../src/target/finished-backup.js';
import { temporaryDirectory, type TestScope } from '../support/cleanup.js';

async function directoryWith(t: TestScope, ...names: readonly string[]): Promise<string> {
  const directory = await temporaryDirectory(t);
  for (const name of names) await fs.writeFile(path.join(directory, name), '');
  return directory;
}

test('a data directory is a plain backup', async (t) => {
  const directory = await directoryWith(t, 'PG_VERSION', 'base.tar');
  assert.deepEqual(findBackup(directory), { kind: 'plain', directory });
});

test('archives are found by name: base, tablespaces by oid, WAL; other files are told', async (t) => {
  const names = [
    'pg_wal.tar',
    '16385.tar.lz4',
    'base.tar.gz',
    'backup_manifest',
    '4000000000.tgz',
    '1.tar.zst',
  ];
  const directory = await directoryWith(t, ...names, 'base.tar.bz2', '5000000000.tar', 'notes', '016.tar');
  const found = findBackup(directory);
  assert.ok(found.kind === 'tar');
  assert.deepEqual(
    found.archives.map(({ name, compression, prefix }) => [name, compression, prefix]),
    [
      ['base.tar.gz', 'gzip', ''],
      ['1.tar.zst', 'zstd', 'pg_tblspc/1/'],
      ['16385.tar.lz4', 'lz4', 'pg_tblspc/16385/'],
      ['4000000000.tgz', 'gzip', 'pg_tblspc/4000000000/'],
      ['pg_wal.tar', 'none', 'pg_wal/'],
    ],
  );
  assert.deepEqual(found.unexpected.toSorted(), ['016.tar', '5000000000.tar', 'base.tar.bz2', 'notes']);
});

test('a single tar file holds everything', async (t) => {
  const directory = await directoryWith(t, 'db1.2026.tar.zst');
  const file = path.join(directory, 'db1.2026.tar.zst');
  const archive = { name: 'db1.2026.tar.zst', path: file, compression: 'zstd', prefix: '' };
  assert.deepEqual(findBackup(file), { kind: 'stream', archive });
});

test('what is no backup is told', async (t) => {
  const empty = await directoryWith(t);
  assert.throws(() => findBackup(empty), { code: 'file_damaged', message: `"${empty}" is not a backup` });
  const walOnly = await directoryWith(t, 'pg_wal.tar', '16384.tar');
  assert.throws(() => findBackup(walOnly), { code: 'file_damaged' });
  const twice = await directoryWith(t, 'base.tar', 'base.tar.gz');
  assert.throws(() => findBackup(twice), {
    code: 'file_damaged',
    message: 'archives "base.tar" and "base.tar.gz" are of the same tablespace',
  });
  const odd = path.join(await directoryWith(t, 'notes.txt'), 'notes.txt');
  assert.throws(() => findBackup(odd), {
    code: 'file_damaged',
    message: /neither a directory nor a tar file/,
  });
  assert.throws(() => findBackup(path.join(empty, 'gone')), {
    code: 'target_io',
    message: /^could not open directory ".*gone": No such file or directory$/,
  });
});
