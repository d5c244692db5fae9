/* Archives made by GNU tar, by tar-stream, and damaged by hand. */
import assert from 'node:assert/strict';
import * as fs from 'node:fs/promises';
import path from 'node:path';
import { buffer } from 'node:stream/consumers';
import { describe, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { pack, type Header } from 'tar-stream';
import { indexArchive, readArchive, type ArchiveMember } from '../../src/target/archive-reader.js';
import { findBackup, type BackupArchive } from '../../src/target/finished-backup.js';
import { temporaryDirectory, type TestScope } from '../support/cleanup.js';
import { run } from '../support/tools.js';

type Got = ArchiveMember & { readonly content: Buffer };

async function readAll(archive: BackupArchive): Promise<Got[]> {
  const got: Got[] = [];
  let chunks: Buffer[] = [];
  let current: ArchiveMember | undefined;
  await readArchive(archive, {
    begin: (member) => {
      assert.equal(current, undefined);
      current = member;
      chunks = [];
    },
    data: (chunk) => {
      chunks.push(Buffer.from(chunk));
      return undefined;
    },
    end: () => {
      assert.ok(current !== undefined);
      got.push({ ...current, content: Buffer.concat(chunks) });
      current = undefined;
    },
  });
  assert.equal(current, undefined);
  return got;
}

async function archiveOf(t: TestScope, content: Buffer, name = 'base.tar'): Promise<BackupArchive> {
  const file = path.join(await temporaryDirectory(t), name);
  await fs.writeFile(file, content);
  const backup = findBackup(file);
  assert.ok(backup.kind === 'stream');
  return backup.archive;
}

async function tarOf(
  ...entries: readonly (Partial<Header> & { name: string; content?: Buffer })[]
): Promise<Buffer> {
  const packer = pack();
  for (const { content = Buffer.alloc(0), ...header } of entries) packer.entry(header, content);
  packer.finalize();
  return await buffer(packer);
}

const LONG_NAME = `${'directory/'.repeat(30)}${'f'.repeat(255)}`;
const UNICODE_NAME = 'base/Größe \n€';

for (const format of ['ustar', 'gnu', 'pax', 'v7', 'oldgnu'] as const) {
  test(`an archive that GNU tar wrote in format ${format}, read and indexed`, async (t) => {
    const root = await temporaryDirectory(t);
    const tree = path.join(root, 'tree');
    const hasLongNames = format !== 'ustar' && format !== 'v7';
    const files = new Map<string, Buffer>([
      ['PG_VERSION', Buffer.from('15\n')],
      ['base/empty', Buffer.alloc(0)],
      ['base/block', Buffer.alloc(512, 1)],
      ['base/big', Buffer.alloc(1_500_001, 'page')],
      [UNICODE_NAME, Buffer.from('x')],
      [`base/${'n'.repeat(format === 'v7' ? 90 : 99)}`, Buffer.from('99')],
      ...(hasLongNames ? [[LONG_NAME, Buffer.from('long')] as const] : []),
    ]);
    for (const [name, content] of files) {
      await fs.mkdir(path.join(tree, path.dirname(name)), { recursive: true });
      await fs.writeFile(path.join(tree, name), content, { mode: 0o640 });
      await fs.chmod(path.join(tree, name), 0o640);
      await fs.utimes(path.join(tree, name), 1_700_000_000, 1_700_000_000);
    }
    const linkName = hasLongNames ? `/${'t'.repeat(150)}` : '/srv/ts';
    await fs.symlink(linkName, path.join(tree, 'link'));
    const file = path.join(root, '16384.tar');
    const made = await run('tar', [`--format=${format}`, '-cf', file, '-C', tree, '.']);
    assert.equal(made.status, 0, made.stderr);
    const archive: BackupArchive = {
      name: '16384.tar',
      path: file,
      compression: 'none',
      prefix: 'pg_tblspc/16384/',
    };

    const got = await readAll(archive);
    const byPath = new Map(got.map((member) => [member.path, member]));
    assert.equal(byPath.get('pg_tblspc/16384')?.type, 'directory');
    assert.equal(byPath.get('pg_tblspc/16384/base')?.type, 'directory');
    assert.equal(byPath.get('pg_tblspc/16384/link')?.linkName, linkName);
    for (const [name, content] of files) {
      const member = byPath.get(`pg_tblspc/16384/${name}`);
      assert.ok(member !== undefined, name);
      assert.deepEqual({ mode: member.mode, mtime: member.mtime }, { mode: 0o640, mtime: 1_700_000_000 });
      assert.ok(member.content.equals(content), name);
    }

    const whole = await fs.readFile(file);
    const indexed = indexArchive(archive);
    assert.deepEqual(
      indexed.map(({ offset, ...member }) => ({
        ...member,
        content: whole.subarray(offset, offset + member.size),
      })),
      got,
    );
  });
}

test('a size past 8 GiB in base 256 and in a pax record is read from the headers alone', async (t) => {
  const root = await temporaryDirectory(t);
  const sparse = path.join(root, 'sparse');
  const size = 9 * 2 ** 30 + 1;
  await fs.writeFile(sparse, 'start');
  await fs.truncate(sparse, size);
  for (const format of ['gnu', 'pax']) {
    // only the head of the archive is kept, then lengthened again without being written
    const head = await run('/bin/sh', [
      '-c',
      `tar --format=${format} -cf - -C ${root} sparse | head -c 4096 | base64`,
    ]);
    const file = path.join(root, `${format}.tar`);
    await fs.writeFile(file, Buffer.from(head.stdout, 'base64'));
    const blocks = format === 'gnu' ? 1 : 3;
    await fs.truncate(file, blocks * 512 + Math.ceil(size / 512) * 512 + 1024);
    const archive: BackupArchive = { name: 'base.tar', path: file, compression: 'none', prefix: '' };
    const found = indexArchive(archive);
    assert.deepEqual(
      found.map((member) => [member.path, member.size, member.offset]),
      [['sparse', size, blocks * 512]],
    );
  }
});

describe('what is no sound archive is refused, naming it', () => {
  const sound = (): Promise<Buffer> =>
    tarOf({ name: 'a', content: Buffer.alloc(1000, 1) }, { name: 'b', content: Buffer.alloc(600, 2) });
  const table: readonly (readonly [name: string, make: () => Promise<Buffer>, message: RegExp])[] = [
    ['cut in a header', async () => (await sound()).subarray(0, 1800), /ended inside a member/],
    ['cut in content', async () => (await sound()).subarray(0, 2500), /ended inside a member/],
    ['cut between members', async () => (await sound()).subarray(0, 1536), /ended before its end was marked/],
    ['empty', () => Promise.resolve(Buffer.alloc(0)), /ended before its end was marked/],
    [
      'something after the end',
      async () => Buffer.concat([await sound(), Buffer.alloc(512, 'x')]),
      /data after the end/,
    ],
    [
      'a flipped bit in a header',
      async () => {
        const bytes = await sound();
        bytes[3] = 1;
        return bytes;
      },
      /invalid tar header/,
    ],
    ['no tar at all', () => Promise.resolve(Buffer.alloc(2048, 'text')), /tar header/],
    ['a hard link', () => tarOf({ name: 'a', type: 'link', linkname: 'b' }), /invalid tar header/],
    ['a device', () => tarOf({ name: 'a', type: 'character-device' }), /invalid tar header/],
    [
      'a name that climbs',
      () => tarOf({ name: '../../etc/passwd' }),
      /member outside of it: "\.\.\/\.\.\/etc\/passwd"/,
    ],
    ['a name that climbs inside', () => tarOf({ name: 'base/../../x' }), /member outside of it/],
    ['an absolute name', () => tarOf({ name: '/etc/passwd' }), /member outside of it: "\/etc\/passwd"/],
    ['a pax name that climbs', () => tarOf({ name: 'a', pax: { path: '../x' } }), /member outside of it/],
    ['a name past MAXPGPATH', () => tarOf({ name: 'x/'.repeat(700) + 'y' }), /too long or not UTF-8/],
  ];
  for (const [name, make, reason] of table) {
    test(name, async (t) => {
      const archive = await archiveOf(t, await make());
      const expected = {
        code: 'file_damaged',
        message: new RegExp(`^archive "base.tar" .*${reason.source}`),
      };
      await assert.rejects(readAll(archive), expected);
      assert.throws(() => indexArchive(archive), expected);
      const packed = await archiveOf(t, gzipSync(await make()), 'base.tar.gz');
      await assert.rejects(readAll(packed), { code: 'file_damaged', message: /^archive "base\.tar\.gz" / });
    });
  }

  test('a receiver that fails stops the reading', async (t) => {
    const archive = await archiveOf(t, gzipSync(await sound()), 'base.tgz');
    const failure = new Error('enough');
    const receiver = {
      begin: () => {
        throw failure;
      },
      data: () => undefined,
      end: () => {},
    };
    await assert.rejects(readArchive(archive, receiver), failure);
  });

  test('a file that cannot be read', async (t) => {
    const archive = await archiveOf(t, await sound());
    await fs.rm(archive.path);
    const expected = { code: 'target_io', message: /^could not read file ".*base\.tar": No such file/ };
    await assert.rejects(readAll(archive), expected);
    assert.throws(() => indexArchive(archive), expected);
  });
});

test('a receiver that asks to wait is waited for', async (t) => {
  const archive = await archiveOf(t, await tarOf({ name: 'a', content: Buffer.alloc(2_000_000, 1) }));
  let waiting = 0;
  let waits = 0;
  await readArchive(archive, {
    begin: () => {},
    data: () => {
      assert.equal(waiting, 0);
      waiting += 1;
      waits += 1;
      return new Promise((resolve) => {
        setImmediate(() => {
          waiting -= 1;
          resolve();
        });
      });
    },
    end: () => {},
  });
  assert.ok(waits > 1);
});
