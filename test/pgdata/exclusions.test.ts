/* Names from basebackup.c, its test 010_pg_basebackup.pl, and looks_like_temp_rel_name in fd.c. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  initForkName,
  isDatabaseDirectory,
  isEmptiedDirectory,
  isExcludedName,
  isTemporaryRelationName,
  parseRelationFileName,
} from '../../src/pgdata/exclusions.js';

function check(
  name: string,
  ask: (name: string) => boolean,
  yes: readonly string[],
  no: readonly string[],
): void {
  describe(name, () => {
    for (const each of yes) test(`${JSON.stringify(each)}: yes`, () => assert.equal(ask(each), true));
    for (const each of no) test(`${JSON.stringify(each)}: no`, () => assert.equal(ask(each), false));
  });
}

check(
  'a directory whose content stays behind',
  isEmptiedDirectory,
  ['pg_stat_tmp', 'pg_replslot', 'pg_dynshmem', 'pg_notify', 'pg_serial', 'pg_snapshots', 'pg_subtrans'],
  [
    'pg_stat',
    'pg_xact',
    'pg_multixact',
    'pg_twophase',
    'pg_logical',
    'pg_commit_ts',
    'pg_wal',
    'pg_notify2',
    '',
  ],
);

check(
  'a name that stays behind',
  isExcludedName,
  [
    'postgresql.auto.conf.tmp',
    'current_logfiles.tmp',
    'backup_label',
    'tablespace_map',
    'backup_manifest',
    'postmaster.pid',
    'postmaster.opts',
    'pg_internal.init',
    'pg_internal.init.123',
    'pg_internal.initial',
    'pgsql_tmp',
    'pgsql_tmp123.4',
    'pgsql_tmp_foo',
  ],
  [
    'postgresql.auto.conf',
    'current_logfiles',
    'backup_label.old',
    'tablespace_map.old',
    'backup_manifest.bak',
    'postmaster.pid2',
    'pg_filenode.map',
    'PG_VERSION',
    'xpgsql_tmp',
    'Backup_label',
    'PGSQL_TMP',
  ],
);

check(
  'a temporary relation',
  isTemporaryRelationName,
  ['t1_1', 't888_888', 't999999_999999', 't1_1_init', 't1_1_fsm', 't1_1_vm', 't9999_1.1', 't888_888_vm.123'],
  [
    't',
    't_',
    't1_',
    't_1',
    't1',
    '1_1',
    't1_1_',
    't1_1_foo',
    't1_1.',
    't1_1.x',
    't1.1',
    't1_1_vm.',
    'x1_1',
    't1_1_vmx',
    'T1_1',
    't1_1\n',
  ],
);

check(
  'a directory of relations',
  isDatabaseDirectory,
  ['base/1', 'base/16384', 'PG_15_202209061/5', 'pg_tblspc/16384/PG_15_202209061/5'],
  [
    '',
    'base',
    'global',
    'base/x',
    'base/1/2',
    'base/pgsql_tmp',
    'PG_15_202209061',
    'PG_15/5',
    'pg_tblspc/16384',
    'x/base/1',
    './base/1',
  ],
);

describe('relation files', () => {
  const relations: readonly (readonly [name: string, number: string, fork: string, segment: number])[] = [
    ['16384', '16384', 'main', 0],
    ['16384.1', '16384', 'main', 1],
    ['16384_fsm', '16384', 'fsm', 0],
    ['16384_vm.12', '16384', 'vm', 12],
    ['16384_init', '16384', 'init', 0],
    ['4294967295', '4294967295', 'main', 0],
  ];
  for (const [name, relationNumber, fork, segmentNumber] of relations) {
    test(name, () => {
      const relation = parseRelationFileName(name);
      assert.deepEqual(relation, { relationNumber, fork, segmentNumber });
      assert.equal(relation === undefined ? '' : initForkName(relation), `${relationNumber}_init`);
    });
  }
  for (const name of [
    '',
    'PG_VERSION',
    'x16384',
    '16384_',
    '16384_foo',
    '16384.',
    '16384.x',
    '16384.1.2',
    '12345678901',
    't1_16384',
    '16384 ',
    '16384\n',
  ]) {
    test(`${JSON.stringify(name)} is none`, () => assert.equal(parseRelationFileName(name), undefined));
  }
});
