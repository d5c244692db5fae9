/* What may stand in a file list: PROTOCOL, "The file list", and what `serve` must refuse (its last section). */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { isPlainRelativePath, whyNotListed } from '../../src/pgdata/listed-path.js';
import { SeededRandom } from '../support/seeded-random.js';

const LISTED = [
  'PG_VERSION',
  'base',
  'base/1/112',
  'base/1/112_init',
  'global/1262',
  'global/pg_filenode.map',
  'pg_tblspc/16384',
  'pg_wal',
  'pg_wal/archive_status',
  'pg_wal/summaries',
  'pg_stat_tmp',
  'pg_replslot',
  'pg_xact/0000',
  'postgresql.conf',
  'with blanks',
  'new\nline',
  'größe',
  '..hidden',
  '...',
  'a..b/c',
  'pg_walx/000000010000000000000001',
  'global/t1_16384',
  't1_16384',
  'PG_15_202209061',
  'PG_15_202209061/5/16408',
];

const NOT_LISTED: readonly (readonly [relativePath: string, why: RegExp])[] = [
  ['', /plain path/],
  ['.', /plain path/],
  ['..', /plain path/],
  ['./PG_VERSION', /plain path/],
  ['../PG_VERSION', /plain path/],
  ['base/../../etc/passwd', /plain path/],
  ['base/./1', /plain path/],
  ['base//1', /plain path/],
  ['base/', /plain path/],
  ['/etc/passwd', /plain path/],
  ['/', /plain path/],
  ['base/1\0', /plain path/],
  ['global/pg_control', /backup stops/],
  ['pg_wal/000000010000000000000001', /WAL is sent/],
  ['pg_wal/00000002.history', /WAL is sent/],
  ['pg_wal/archive_status/000000010000000000000001.done', /WAL is sent/],
  ['pg_wal/summaries/x.summary', /WAL is sent/],
  ['pg_wal/sub', /WAL is sent/],
  ['postmaster.pid', /excluded/],
  ['postmaster.opts', /excluded/],
  ['backup_label', /excluded/],
  ['tablespace_map', /excluded/],
  ['backup_manifest', /excluded/],
  ['base/pgsql_tmp', /excluded/],
  ['base/pgsql_tmp/pgsql_tmp123.0', /excluded/],
  ['base/1/pg_internal.init', /excluded/],
  ['extra/backup_label/x', /excluded/],
  ['pg_replslot/slot/state', /content of this directory/],
  ['pg_stat_tmp/global.stat', /content of this directory/],
  ['extra/pg_notify/0000', /content of this directory/],
  ['base/1/t3_16384', /temporary/],
  ['base/1/t3_16384_vm.1', /temporary/],
  ['PG_15_202209061/5/t3_16384', /temporary/],
];

describe('listed', () => {
  for (const relativePath of LISTED) {
    test(JSON.stringify(relativePath), () => {
      assert.equal(whyNotListed(relativePath), undefined);
      assert.ok(isPlainRelativePath(relativePath));
    });
  }
});

describe('not listed', () => {
  for (const [relativePath, why] of NOT_LISTED) {
    test(JSON.stringify(relativePath), () => {
      assert.match(whyNotListed(relativePath) ?? '', why);
      assert.equal(isPlainRelativePath(relativePath), !why.source.includes('plain'));
    });
  }
});

test('a plain path never leaves the directory that it is below', () => {
  const random = new SeededRandom(110);
  for (let round = 0; round < 20_000; round += 1) {
    const relativePath = random.text(['.', '.', '/', '/', 'a', '\\', '\0', ' '], 10);
    if (!isPlainRelativePath(relativePath)) continue;
    const depth = relativePath.split('/').length;
    const { pathname } = new URL(`file:///root/${encodeURIComponent(relativePath).replaceAll('%2F', '/')}`);
    assert.ok(pathname.startsWith('/root/'));
    assert.equal(pathname.split('/').length, depth + 2, JSON.stringify(relativePath));
  }
});
