/* What SEND_BACKUP_FILES may name: the rules on names, and what they come to on a real file system. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { closeSync, fstatSync } from 'node:fs';
import * as fs from 'node:fs/promises';
import path from 'node:path';
import test, { before } from 'node:test';
import { ServedFiles, type ServedFile } from '../../src/server/served-file.js';
import { PathRules } from '../../src/server/served-path.js';
import type { ServedCluster } from '../../src/server/served-cluster.js';
import { listTablespaces } from '../../src/server/tablespaces.js';
import { temporaryDirectory } from '../support/cleanup.js';
import { fileScope } from './test-serve.js';

const VERSION = 'PG_15_202209061';
const scope = fileScope();
let data: string;
let tablespace: string;
let inside: string;
let rules: PathRules;

/** A data directory with what it has, and with what it should not have. */
before(async () => {
  const top = await temporaryDirectory(scope);
  data = path.join(top, 'data');
  tablespace = path.join(top, 'ts1');
  inside = path.join(data, 'inside');
  for (const directory of [
    'base/1',
    'base/pgsql_tmp',
    'global',
    'pg_wal/archive_status',
    'pg_tblspc',
    'pg_replslot/slot',
    'pg_notify',
    `inside/${VERSION}/5`,
    'pg_log',
  ]) {
    await fs.mkdir(path.join(data, directory), { recursive: true });
  }
  for (const directory of [`${VERSION}/5`, 'PG_14_202107181/5']) {
    await fs.mkdir(path.join(tablespace, directory), { recursive: true });
  }
  for (const file of [
    'data/PG_VERSION',
    'data/postmaster.pid',
    'data/postmaster.opts',
    'data/backup_label',
    'data/postgresql.auto.conf.tmp',
    'data/base/1/1259',
    'data/base/1/16384',
    'data/base/1/16384_init',
    'data/base/1/16384_fsm',
    'data/base/1/t3_16400',
    'data/base/1/pg_internal.init',
    'data/base/pgsql_tmp/pgsql_tmp1.0',
    'data/global/pg_control',
    'data/pg_wal/000000010000000000000001',
    'data/pg_wal/archive_status/000000010000000000000001.done',
    'data/pg_replslot/slot/state',
    'data/pg_notify/0000',
    `data/inside/${VERSION}/5/16500`,
    `ts1/${VERSION}/5/16408`,
    'ts1/PG_14_202107181/5/16408',
    'ts1/stray',
    'secret',
  ]) {
    await fs.writeFile(path.join(top, file), file);
  }
  await fs.symlink(tablespace, path.join(data, 'pg_tblspc/16385'));
  await fs.symlink(inside, path.join(data, 'pg_tblspc/16386'));
  await fs.symlink('/etc', path.join(data, 'outside'));
  await fs.symlink(path.join(top, 'secret'), path.join(data, 'base/1/16600'));
  await fs.symlink('base', path.join(data, 'base_again'));
  await fs.symlink('/etc', path.join(tablespace, VERSION, '6'));
  execFileSync('mkfifo', [path.join(data, 'fifo'), path.join(data, 'base/1/16700')]);
  const cluster: ServedCluster = {
    dataDirectory: data,
    systemIdentifier: 1n,
    majorVersion: 15,
    versionDirectory: VERSION,
    walSegmentBytes: 16_777_216,
    statsTempDirectory: undefined,
  };
  rules = new PathRules(cluster, await listTablespaces(data));
});

function open(asked: string): ServedFile | undefined {
  const opened = new ServedFiles(data).open(rules.resolve(asked));
  if (opened?.kind === 'file') closeSync(opened.descriptor);
  return opened;
}

test('what a file list contains is served', () => {
  const cases: Readonly<Record<string, ServedFile['kind']>> = {
    './PG_VERSION': 'file',
    './base': 'directory',
    './base/1/1259': 'file',
    './base/1/16384_init': 'file',
    './pg_wal': 'directory',
    './pg_wal/archive_status': 'directory',
    './pg_replslot': 'directory',
    './inside': 'directory',
    './pg_tblspc/16385': 'link',
    [`${tablespace}/${VERSION}`]: 'directory',
    [`${tablespace}/${VERSION}/5`]: 'directory',
    [`${tablespace}/${VERSION}/5/16408`]: 'file',
    [`${inside}/${VERSION}/5/16500`]: 'file',
  };
  for (const [asked, kind] of Object.entries(cases)) assert.equal(open(asked)?.kind, kind, asked);
});

test('what has vanished is nothing', () => {
  for (const asked of ['./nope', './base/9/1', './PG_VERSION/below', `${tablespace}/${VERSION}/9/1`]) {
    assert.equal(open(asked), undefined, asked);
  }
});

test('a link is sent with its target, and never followed', () => {
  const link = open('./pg_tblspc/16385');
  assert.ok(link?.kind === 'link');
  assert.equal(link.target, tablespace);
});

test('a file is opened as what was looked at', async () => {
  const opened = new ServedFiles(data).open(rules.resolve('./PG_VERSION'));
  assert.ok(opened?.kind === 'file');
  assert.equal(fstatSync(opened.descriptor).ino, (await fs.stat(path.join(data, 'PG_VERSION'))).ino);
  closeSync(opened.descriptor);
});

test('everything else is refused, and not because it is missing', async (t) => {
  const malformed = { sqlState: '22023' };
  const refused = { sqlState: '42501' };
  const cases: readonly { readonly asked: string; readonly as: { readonly sqlState: string } }[] = [
    { asked: '', as: malformed },
    { asked: 'PG_VERSION', as: malformed },
    { asked: 'base/1/1259', as: malformed },
    { asked: '.', as: malformed },
    { asked: './', as: malformed },
    { asked: '..', as: malformed },
    { asked: './../secret', as: malformed },
    { asked: './../x', as: malformed },
    { asked: './base/../../secret', as: malformed },
    { asked: './base/1/../../postmaster.pid', as: malformed },
    { asked: './/PG_VERSION', as: malformed },
    { asked: './base//1/1259', as: malformed },
    { asked: './base/./1/1259', as: malformed },
    { asked: './base/1/', as: malformed },
    { asked: './PG_VERSION\0', as: malformed },
    { asked: './base/1/1259\0.txt', as: malformed },
    { asked: `./${'x'.repeat(2000)}`, as: malformed },
    { asked: '~/PG_VERSION', as: malformed },
    { asked: '/etc/passwd', as: refused },
    { asked: '/', as: refused },
    { asked: `${data}/PG_VERSION`, as: refused },
    { asked: `${data}/base/1/1259`, as: refused },
    { asked: tablespace, as: refused },
    { asked: `${tablespace}/stray`, as: refused },
    { asked: `${tablespace}/PG_14_202107181/5/16408`, as: refused },
    { asked: `${tablespace}/${VERSION}x`, as: refused },
    { asked: `${tablespace}/${VERSION}/../stray`, as: malformed },
    { asked: `${tablespace}/${VERSION}/6/passwd`, as: refused },
    { asked: `${tablespace}x/${VERSION}`, as: refused },
    { asked: `./inside/${VERSION}/5/16500`, as: refused },
    { asked: './pg_wal/000000010000000000000001', as: refused },
    { asked: './pg_wal/archive_status/000000010000000000000001.done', as: refused },
    { asked: './global/pg_control', as: refused },
    { asked: './postmaster.pid', as: refused },
    { asked: './postmaster.opts', as: refused },
    { asked: './backup_label', as: refused },
    { asked: './postgresql.auto.conf.tmp', as: refused },
    { asked: './base/1/pg_internal.init', as: refused },
    { asked: './base/1/t3_16400', as: refused },
    { asked: './base/1/16384', as: refused },
    { asked: './base/1/16384_fsm', as: refused },
    { asked: './base/pgsql_tmp', as: refused },
    { asked: './base/pgsql_tmp/pgsql_tmp1.0', as: refused },
    { asked: './pg_replslot/slot', as: refused },
    { asked: './pg_replslot/slot/state', as: refused },
    { asked: './pg_notify/0000', as: refused },
    { asked: `./pg_tblspc/16385/${VERSION}/5/16408`, as: refused },
    { asked: './outside', as: refused },
    { asked: './outside/passwd', as: refused },
    { asked: './base/1/16600', as: refused },
    { asked: './base_again/1/1259', as: refused },
    { asked: './fifo', as: refused },
    { asked: './base/1/16700', as: refused },
  ];
  for (const { asked, as } of cases) {
    await t.test(JSON.stringify(asked.replace(path.dirname(data), '')), () => {
      assert.throws(() => open(asked), as);
    });
  }
});
