import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BackupAccount } from '../../src/coordinator/backup-account.js';

function file(path: string, size: number) {
  return { path, size, mtime: 0, checksum: '' };
}

const NOTHING = { files: [], parts: [], hasBadPages: false } as const;

test('files count for the tablespace that they lie in', () => {
  const account = new BackupAccount([{ oid: 16384, location: '/srv/one' }]);
  for (const [path, size] of [
    ['PG_VERSION', 3],
    ['base/1/112', 8192],
    ['pg_tblspc/16384/PG_15_1/5/1', 100],
    ['pg_tblspc/16384/PG_15_1/5/2', 200],
    // within the data directory
    ['pg_tblspc/16385/PG_15_1/5/1', 5],
  ] as const) {
    account.addFile(file(path, size));
  }
  assert.deepEqual(account.tablespaces, [
    { oid: undefined, location: undefined, files: 3, bytes: 8200, seconds: 0 },
    { oid: 16384, location: '/srv/one', files: 2, bytes: 300, seconds: 0 },
  ]);
});

test('a tablespace takes from the begin of its first task to the end of its last', () => {
  let nowMs = 10_000;
  const account = new BackupAccount([{ oid: 16384, location: '/srv/one' }], () => nowMs);
  account.addTask(NOTHING, { worker: 1, seconds: 2 }, 16384);
  nowMs = 11_000;
  account.addTask(NOTHING, { worker: 2, seconds: 4 }, 16384);
  account.addTask(NOTHING, { worker: 3, seconds: 0.5 }, undefined);
  nowMs = 12_500;
  account.addTask(NOTHING, { worker: 1, seconds: 1 }, 16384);
  assert.deepEqual(
    account.tablespaces.map(({ seconds }) => seconds),
    [0.5, 5.5],
  );
});

test('workers are counted from 1, with what they copied and repeated', () => {
  const account = new BackupAccount([]);
  account.addTask({ ...NOTHING, files: [file('a', 10), file('b', 5)] }, { worker: 7, seconds: 1 }, undefined);
  account.addRetry({ worker: 4, seconds: 0.5 });
  const parts = [
    { ...file('c', 100), offset: 0 },
    { ...file('d', 50), offset: 1024 },
  ];
  account.addTask({ ...NOTHING, parts }, { worker: 4, seconds: 0.25 }, undefined);
  account.addTask(NOTHING, { worker: 7, seconds: 1 }, undefined);
  assert.deepEqual(account.workers, [
    { worker: 1, files: 1, bytes: 150, seconds: 0.75, retries: 1 },
    { worker: 2, files: 2, bytes: 15, seconds: 2, retries: 0 },
  ]);
  assert.equal(account.retries, 1);
});

test('bad pages are counted, as long as every server says how many', () => {
  const account = new BackupAccount([]);
  const work = { worker: 1, seconds: 0 };
  assert.deepEqual([account.hasBadPages, account.badPageCount], [false, 0]);
  account.addTask({ ...NOTHING, hasBadPages: true, badPageCount: 2 }, work, undefined);
  account.addTask({ ...NOTHING, hasBadPages: true, badPageCount: 3 }, work, undefined);
  account.addTask(NOTHING, work, undefined);
  assert.deepEqual([account.hasBadPages, account.badPageCount], [true, 5]);
  account.addTask({ ...NOTHING, hasBadPages: true }, work, undefined);
  account.addTask({ ...NOTHING, hasBadPages: true, badPageCount: 1 }, work, undefined);
  assert.deepEqual([account.hasBadPages, account.badPageCount], [true, undefined]);
});
