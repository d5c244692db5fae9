/* Headers are held against those that PostgreSQL wrote, and against what GNU tar and tar-stream make of them. */
import assert from 'node:assert/strict';
import * as fs from 'node:fs/promises';
import path from 'node:path';
import { describe, test } from 'node:test';
import { ConvoyError } from '../../src/errors.js';
import { encodeTarHeader, TAR_END, tarPadding, type TarMember } from '../../src/tar/tar-encoding.js';
import { TarMemberReader, type TarMemberHandler } from '../../src/tar/tar-members.js';
import type { TarHeader } from '../../src/tar/tar-header.js';
import { filesInArchive } from '../support/base-backup.js';
import { temporaryDirectory } from '../support/cleanup.js';
import { run } from '../support/tools.js';

const FILE: TarMember = { name: 'x', type: 'file', size: 0, mode: 0o600, mtime: 1_700_000_000 };
const NAMES = [
  'PG_VERSION',
  'global/pg_control',
  'with blanks and "quotes"',
  'größe/ünïcödé',
  'new\nline',
  'x'.repeat(99),
  'x'.repeat(100),
  `${'d'.repeat(154)}/${'x'.repeat(100)}`,
  `${'d'.repeat(155)}/${'ü'.repeat(50)}`,
  `${'ü'.repeat(126)}x`,
  `deep/${'directories/'.repeat(60)}file`,
];

/** An archive of files without content. */
function archiveOf(members: readonly TarMember[]): Buffer {
  return Buffer.concat([...members.map(encodeTarHeader), TAR_END]);
}

test('a header is what PostgreSQL writes, byte for byte', () => {
  // head -c 512 base.tar of pg_basebackup -Ft: server 15, backup_label of 225 bytes, owner 101, group 104
  const expected = Buffer.alloc(512);
  expected.write('backup_label', 0);
  expected.write('0000600 0000145 0000150 00000000341 15300303161 0015507 0', 100);
  expected.write('ustar\x0000postgres', 257);
  expected.write('postgres', 297);
  expected.write('0000000 0000000 ', 329);
  const owner = { uid: 101, gid: 104 };
  const actual = encodeTarHeader({ ...FILE, name: 'backup_label', size: 225, mtime: 0o15300303161, owner });
  assert.deepEqual(actual, expected);
});

test('numbers of an owner that octal digits do not hold, as in containers, are read back by GNU tar', async (t) => {
  const archive = path.join(await temporaryDirectory(t), 'x.tar');
  const owner = { uid: 2_097_151, gid: 1_000_650_000 };
  await fs.writeFile(archive, archiveOf([{ ...FILE, owner }]));
  const listed = await run('tar', ['-t', '-v', '--numeric-owner', '-f', archive]);
  assert.match(listed.stdout, /^-rw------- 2097151\/1000650000 /);
});

test('an owner that is not known has the number 0', () => {
  assert.equal(encodeTarHeader(FILE).toString('latin1', 108, 124), '0000000 0000000 ');
});

test('padding fills blocks', () => {
  for (const [size, padding] of [
    [0, 0],
    [1, 511],
    [511, 1],
    [512, 0],
    [513, 511],
    [2 ** 40 + 1, 511],
  ] as const) {
    assert.equal(tarPadding(size), padding, String(size));
  }
});

describe('names at the limits of tar', () => {
  const members = NAMES.flatMap((name): TarMember[] => [
    { ...FILE, name },
    { ...FILE, name: `${name}.d`, type: 'directory', mode: 0o750 },
  ]);

  test('up to 99 bytes they stand in a plain header, as PostgreSQL reads it', () => {
    for (const member of members) {
      const name = Buffer.from(member.type === 'directory' ? `${member.name}/` : member.name);
      const header = encodeTarHeader(member);
      assert.equal(header.length === 512, name.length <= 99, member.name);
      if (header.length === 512) assert.deepEqual(header.subarray(0, name.length), name);
    }
  });

  test('GNU tar unpacks them all', async (t) => {
    const directory = await temporaryDirectory(t);
    const archive = path.join(directory, 'x.tar');
    await fs.writeFile(archive, archiveOf(members));
    const unpacked = await run('tar', ['-x', '-f', archive, '-C', directory]);
    assert.deepEqual([unpacked.status, unpacked.stderr], [0, '']);
    for (const { name, type, mode } of members) {
      const stats = await fs.stat(path.join(directory, name));
      assert.equal(stats.isDirectory(), type === 'directory', name);
      assert.equal(stats.mode & 0o777, mode & ~process.umask(), name);
    }
  });

  test('tar-stream and our own reader find them all', async () => {
    const archive = archiveOf(members);
    const found = await filesInArchive(archive);
    assert.deepEqual(
      found.map(({ name, type }) => ({ name, type })),
      members.map(({ name, type }) => ({ name, type })),
    );
    const read: TarHeader[] = [];
    const handler: TarMemberHandler = {
      begin: (header) => read.push(header),
      data: () => undefined,
      end: () => {},
    };
    const fail = (reason: string): ConvoyError => new ConvoyError('file_damaged', reason);
    const reader = new TarMemberReader(handler, { kind: 'archive', fail });
    void reader.push(archive);
    reader.finish();
    assert.deepEqual(
      read.map(({ name, type, mode, mtime }) => ({ name: name.replace(/\/$/, ''), type, mode, mtime })),
      members.map(({ name, type, mode, mtime }) => ({ name, type, mode, mtime })),
    );
  });
});

test('sizes of 8 GiB and more are understood by GNU tar', async (t) => {
  const directory = await temporaryDirectory(t);
  for (const [size, isOctal] of [
    [8 * 2 ** 30 - 1, true],
    [8 * 2 ** 30, false],
    [2 ** 40 + 12_345, false],
  ] as const) {
    const header = encodeTarHeader({ ...FILE, size });
    assert.equal(header[124] !== 0x80, isOctal);
    const archive = path.join(directory, `${size}.tar`);
    await fs.writeFile(archive, header);
    // sparse
    await fs.truncate(archive, header.length + size + tarPadding(size) + TAR_END.length);
    const listed = await run('tar', ['-t', '-v', '-f', archive]);
    assert.equal(listed.status, 0, listed.stderr);
    assert.equal(/^-rw------- postgres\/postgres (\d+) /.exec(listed.stdout)?.[1], String(size));
  }
});
