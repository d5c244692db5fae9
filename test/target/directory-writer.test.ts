import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, test } from 'node:test';
import { DirectoryWriter, resolveInDirectory, syncPaths } from '../../src/target/directory-writer.js';
import { openTarget } from '../../src/target/open-target.js';
import type { DirectoryTargetSpec } from '../../src/target/target.js';
import { targetContract } from '../contract/target-contract.js';
import { cleanup, temporaryDirectory, type TestScope } from '../support/cleanup.js';
import { run } from '../support/tools.js';

async function makeSpec(t: TestScope): Promise<DirectoryTargetSpec> {
  const parent = await temporaryDirectory(t);
  const spec: DirectoryTargetSpec = {
    kind: 'directory',
    directory: path.join(parent, 'backup'),
    tablespaces: [{ oid: 16384, location: path.join(parent, 'space') }],
  };
  mkdirSync(path.join(spec.directory, 'base/1'), { recursive: true });
  mkdirSync(path.join(parent, 'space/PG_15_202209061/5'), { recursive: true });
  return spec;
}

targetContract('a plain directory', async (t) => {
  const spec = await makeSpec(t);
  return {
    target: openTarget(spec),
    read: (file) => {
      const at = resolveInDirectory(spec, file);
      if (!existsSync(at)) return Promise.resolve(undefined);
      const { mode, mtimeMs } = statSync(at);
      return Promise.resolve({ content: readFileSync(at), mode: mode & 0o7777, mtime: mtimeMs / 1000 });
    },
  };
});

const FILE = { size: 1, mode: 0o600, mtime: 0 };

test('files may be written side by side', async (t) => {
  const spec = await makeSpec(t);
  const target = new DirectoryWriter(spec);
  const one = target.createFile({ ...FILE, path: 'base/1/1', size: 4 });
  const two = target.createFile({ ...FILE, path: 'base/1/2', size: 4 });
  void one.write(Buffer.from('11'));
  void two.write(Buffer.from('2222'));
  two.finish();
  void one.write(Buffer.from('11'));
  one.finish();
  assert.equal(readFileSync(path.join(spec.directory, 'base/1/1'), 'utf8'), '1111');
  assert.equal(readFileSync(path.join(spec.directory, 'base/1/2'), 'utf8'), '2222');
});

for (const { name, offset, pieces } of [
  { name: 'in one piece', offset: undefined, pieces: ['abcdef'] },
  { name: 'in two pieces', offset: undefined, pieces: ['abc', 'def'] },
  { name: 'less than was said', offset: undefined, pieces: ['abc'] },
  { name: 'nothing', offset: undefined, pieces: [] },
  { name: 'a part at an odd place', offset: 8193, pieces: ['abcdef'] },
  { name: 'a part in pieces', offset: 8192, pieces: ['a', 'bcdef'] },
]) {
  test(`content comes to its place: ${name}`, async (t) => {
    const spec = await makeSpec(t);
    const at = path.join(spec.directory, 'base/1/1');
    const writer = new DirectoryWriter(spec).createFile({ ...FILE, path: 'base/1/1', size: 6, offset });
    for (const piece of pieces) void writer.write(Buffer.from(piece));
    writer.finish();
    assert.equal(readFileSync(at, 'latin1'), '\0'.repeat(offset ?? 0) + pieces.join(''));
  });
}

test('paths lie below the directory, or below the tablespace that they name', () => {
  const spec: DirectoryTargetSpec = {
    kind: 'directory',
    directory: '/backup',
    tablespaces: [{ oid: 16384, location: '/srv/space' }],
  };
  for (const [name, expected] of [
    ['PG_VERSION', '/backup/PG_VERSION'],
    ['pg_tblspc/16384/new\nline', '/srv/space/new\nline'],
    ['pg_tblspc', '/backup/pg_tblspc'],
    ['pg_tblspc/16384', '/backup/pg_tblspc/16384'],
    ['pg_tblspc/16384/PG_15_1/5/1', '/srv/space/PG_15_1/5/1'],
    ['pg_tblspc/16385/PG_15_1/5/1', '/backup/pg_tblspc/16385/PG_15_1/5/1'],
    ['base/pg_tblspc/16384/x', '/backup/base/pg_tblspc/16384/x'],
  ] as const) {
    assert.equal(resolveInDirectory(spec, name), expected);
  }
});

describe('what cannot be written is named', () => {
  test('no directory for it', async (t) => {
    const spec = await makeSpec(t);
    assert.throws(() => new DirectoryWriter(spec).createFile({ ...FILE, path: 'gone/x' }), {
      code: 'target_io',
      message: `could not create file "${spec.directory}/gone/x": No such file or directory`,
    });
  });

  test('a directory in its place', async (t) => {
    const spec = await makeSpec(t);
    assert.throws(() => new DirectoryWriter(spec).createFile({ ...FILE, path: 'base/1' }), {
      code: 'target_io',
      message: `could not create file "${spec.directory}/base/1": Is a directory`,
    });
  });

  test('a link in its place is not followed', async (t) => {
    const spec = await makeSpec(t);
    const precious = path.join(path.dirname(spec.directory), 'precious');
    writeFileSync(precious, 'precious');
    symlinkSync(precious, path.join(spec.directory, 'PG_VERSION'));
    assert.throws(() => new DirectoryWriter(spec).createFile({ ...FILE, path: 'PG_VERSION' }), {
      code: 'target_io',
      message: /could not create file ".*\/PG_VERSION": /,
    });
    assert.equal(readFileSync(precious, 'utf8'), 'precious');
  });

  test('a full disk', async (t) => {
    const spec = await makeSpec(t);
    if (process.getuid?.() !== 0) return t.skip('only root can mount a small file system');
    const mounted = await run('mount', [
      '-t',
      'tmpfs',
      '-o',
      'size=1m',
      'pgconvoy-test',
      `${spec.directory}/base`,
    ]);
    if (mounted.status !== 0) return t.skip(`no small file system: ${mounted.stderr.trim()}`);
    cleanup(t, async () => {
      assert.equal((await run('umount', [`${spec.directory}/base`])).status, 0);
    });
    const writer = new DirectoryWriter(spec).createFile({ ...FILE, path: 'base/112' });
    const chunk = Buffer.alloc(64 * 1024);
    const fill = (): void => {
      for (let written = 0; written <= 2 ** 21; written += chunk.length) void writer.write(chunk);
    };
    assert.throws(fill, {
      code: 'target_io',
      message: `could not write file "${spec.directory}/base/112": No space left on device`,
    });
    writer.abandon();
  });
});

describe('syncing', () => {
  test('takes files and directories, and passes over what is gone', async (t) => {
    const spec = await makeSpec(t);
    const file = path.join(spec.directory, 'PG_VERSION');
    writeFileSync(file, '15\n');
    syncPaths([file, spec.directory, path.join(spec.directory, 'gone')]);
  });

  test('names what it cannot open', async (t) => {
    const spec = await makeSpec(t);
    const link = path.join(spec.directory, 'link');
    symlinkSync('/nowhere', link);
    assert.throws(() => syncPaths([link]), {
      code: 'target_io',
      message: /^could not fsync file ".*\/link": /,
    });
  });
});
