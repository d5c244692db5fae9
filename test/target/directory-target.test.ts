import assert from 'node:assert/strict';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { describe, test } from 'node:test';
import {
  DirectoryTarget,
  refuseUnlessEmpty,
  type DirectoryToMake,
} from '../../src/target/directory-target.js';
import type { TargetTablespace } from '../../src/target/target.js';
import { cleanup, temporaryDirectory } from '../support/cleanup.js';

const DIRECTORIES: readonly DirectoryToMake[] = [
  { target: 'base', mode: 0o700 },
  { target: 'base/1', mode: 0o750 },
  { target: 'pg_tblspc', mode: 0o700 },
];
const IN_SPACE: readonly DirectoryToMake[] = [
  { target: 'pg_tblspc/16384/PG_15_202209061', mode: 0o700 },
  { target: 'pg_tblspc/16384/PG_15_202209061/5', mode: 0o500 },
];

function targetAt(directory: string, tablespaces: readonly TargetTablespace[] = []): DirectoryTarget {
  return new DirectoryTarget({ kind: 'directory', directory, tablespaces });
}

function modeOf(file: string): number {
  return statSync(file).mode & 0o7777;
}

/** Every path below, links not followed. */
function tree(parent: string): string[] {
  return readdirSync(parent, { recursive: true, encoding: 'utf8' }).toSorted();
}

describe('preparing', () => {
  test('makes the directory, what is listed, the tablespaces and their links', async (t) => {
    const parent = await temporaryDirectory(t);
    const [directory, location] = [path.join(parent, 'a/b/backup'), path.join(parent, 'spaces/one')];
    const target = targetAt(directory, [{ oid: 16384, location }]);
    target.prepare(0o750, [...DIRECTORIES, ...IN_SPACE]);
    assert.equal(modeOf(directory), 0o750);
    assert.equal(modeOf(path.join(directory, 'base')), 0o700);
    assert.equal(modeOf(path.join(directory, 'base/1')), 0o750);
    assert.equal(readlinkSync(path.join(directory, 'pg_tblspc/16384')), location);
    assert.deepEqual(tree(location), ['PG_15_202209061', 'PG_15_202209061/5']);
    // files are to be written there, whatever the server's directory allows
    assert.equal(modeOf(path.join(location, 'PG_15_202209061/5')), 0o700);
    assert.equal(modeOf(path.join(parent, 'a')), 0o700);
    target.syncDirectories();
  });

  test('takes empty directories as they are', async (t) => {
    const parent = await temporaryDirectory(t);
    const [directory, location] = [path.join(parent, 'backup'), path.join(parent, 'space')];
    for (const each of [directory, location]) {
      mkdirSync(each);
      chmodSync(each, 0o755);
    }
    targetAt(directory, [{ oid: 16384, location }]).prepare(0o700, [...DIRECTORIES, ...IN_SPACE]);
    assert.equal(modeOf(directory), 0o755);
    assert.equal(modeOf(location), 0o755);
  });

  test('is not narrowed by the umask', async (t) => {
    const umask = process.umask(0o077);
    t.after(() => process.umask(umask));
    const directory = path.join(await temporaryDirectory(t), 'backup');
    targetAt(directory).prepare(0o750, DIRECTORIES);
    assert.equal(modeOf(directory), 0o750);
    assert.equal(modeOf(path.join(directory, 'base/1')), 0o750);
  });

  test('takes a tablespace inside the data directory, where its parents are listed too', async (t) => {
    const directory = path.join(await temporaryDirectory(t), 'backup');
    const location = path.join(directory, 'spaces/deep/inside');
    const listed = ['spaces', 'spaces/deep', 'spaces/deep/inside'].map((target) => ({ target, mode: 0o700 }));
    const target = targetAt(directory, [{ oid: 16384, location }]);
    target.prepare(0o700, [...IN_SPACE, ...DIRECTORIES, ...listed]);
    assert.ok(existsSync(path.join(location, 'PG_15_202209061/5')));
    target.syncDirectories();
    await target.remove();
    assert.ok(!existsSync(directory));
  });
});

describe('refused', () => {
  test('a directory that is not empty', async (t) => {
    const parent = await temporaryDirectory(t);
    writeFileSync(path.join(parent, 'mine'), '');
    const refused = {
      code: 'target_refused',
      message: `directory "${parent}" exists but is not empty`,
      hint: 'remove or empty it, or name another directory',
    };
    assert.throws(() => refuseUnlessEmpty(parent), refused);
    assert.throws(() => targetAt(parent).prepare(0o700, []), refused);
  });

  test('a hidden file counts, too', async (t) => {
    const parent = await temporaryDirectory(t);
    writeFileSync(path.join(parent, '.mine'), '');
    assert.throws(() => refuseUnlessEmpty(parent), { code: 'target_refused' });
  });

  test('a file in place of the directory, and a file above it', async (t) => {
    const file = path.join(await temporaryDirectory(t), 'file');
    writeFileSync(file, 'mine');
    assert.throws(() => refuseUnlessEmpty(file), {
      code: 'target_refused',
      message: `"${file}" exists but is not a directory`,
    });
    assert.throws(() => targetAt(`${file}/backup`).prepare(0o700, []), {
      message: /exists but is not a directory|Not a directory/,
    });
    assert.equal(readFileSync(file, 'utf8'), 'mine');
  });

  test('a tablespace directory that is not empty', async (t) => {
    const parent = await temporaryDirectory(t);
    const location = path.join(parent, 'space');
    mkdirSync(location);
    writeFileSync(path.join(location, 'mine'), '');
    const target = targetAt(path.join(parent, 'backup'), [{ oid: 16384, location }]);
    assert.throws(() => target.prepare(0o700, DIRECTORIES), {
      code: 'target_refused',
      message: /space" exists but is not empty/,
    });
    await target.remove();
    assert.deepEqual(tree(parent), ['space', 'space/mine']);
  });

  test(
    'what a missing right hides is named',
    { skip: process.getuid?.() === 0 && 'root may do everything' },
    async (t) => {
      const parent = await temporaryDirectory(t);
      chmodSync(parent, 0o000);
      cleanup(t, () => chmodSync(parent, 0o700));
      assert.throws(() => refuseUnlessEmpty(path.join(parent, 'x')), {
        code: 'target_io',
        message: /Permission denied/,
      });
    },
  );

  const overlaps: readonly (readonly [name: string, locations: readonly string[]])[] = [
    ['a tablespace in place of the data directory', ['backup']],
    ['a tablespace above the data directory', ['']],
    ['two tablespaces in one place', ['one', 'one']],
    ['a tablespace in another', ['one', 'one/two']],
    ['a tablespace above another', ['one/two/three', 'one']],
    ['two in one inside the data directory', ['backup/x', 'backup/x']],
  ];
  for (const [name, locations] of overlaps) {
    test(name, async (t) => {
      const parent = await temporaryDirectory(t);
      const tablespaces = locations.map((at, index) => ({
        oid: index + 1,
        location: at === '' ? parent : path.join(parent, at),
      }));
      const target = targetAt(path.join(parent, 'backup'), tablespaces);
      assert.throws(() => target.prepare(0o700, DIRECTORIES), {
        code: 'target_refused',
        message: /^tablespace directory ".*" overlaps ".*"$/,
        hint: /-T OLD=NEW/,
      });
      assert.deepEqual(tree(parent), []);
    });
  }

  test('a name that only begins like another is none that overlaps', async (t) => {
    const parent = await temporaryDirectory(t);
    const tablespaces = ['backup2', 'one', 'one2'].map((name, index) => ({
      oid: index + 1,
      location: path.join(parent, name),
    }));
    targetAt(path.join(parent, 'backup'), tablespaces).prepare(0o700, DIRECTORIES);
  });
});

describe('removing', () => {
  test('takes away all that was made, parents too', async (t) => {
    const parent = await temporaryDirectory(t);
    const [directory, location] = [path.join(parent, 'a/b/backup'), path.join(parent, 'c/d/space')];
    const target = targetAt(directory, [{ oid: 16384, location }]);
    target.prepare(0o700, [...DIRECTORIES, ...IN_SPACE]);
    writeFileSync(path.join(directory, 'base/1/112'), 'x');
    writeFileSync(path.join(location, 'PG_15_202209061/5/16400'), 'x');
    await target.remove();
    assert.deepEqual(tree(parent), []);
  });

  test('leaves directories that were there, empty, and what stands beside', async (t) => {
    const parent = await temporaryDirectory(t);
    const [directory, location] = [path.join(parent, 'there/backup'), path.join(parent, 'space')];
    mkdirSync(path.join(parent, 'there'));
    mkdirSync(location);
    writeFileSync(path.join(parent, 'there/mine'), 'mine');
    const target = targetAt(directory, [{ oid: 16384, location }]);
    target.prepare(0o700, [...DIRECTORIES, ...IN_SPACE]);
    await target.remove();
    assert.deepEqual(tree(parent), ['space', 'there', 'there/mine']);
  });

  test('leaves a parent that somebody else uses by now', async (t) => {
    const parent = await temporaryDirectory(t);
    const target = targetAt(path.join(parent, 'a/b/backup'));
    target.prepare(0o700, DIRECTORIES);
    writeFileSync(path.join(parent, 'a/mine'), 'mine');
    await target.remove();
    assert.deepEqual(tree(parent), ['a', 'a/mine']);
  });

  test('follows no link', async (t) => {
    const parent = await temporaryDirectory(t);
    mkdirSync(path.join(parent, 'elsewhere'));
    writeFileSync(path.join(parent, 'elsewhere/mine'), 'mine');
    const directory = path.join(parent, 'backup');
    const target = targetAt(directory);
    target.prepare(0o700, DIRECTORIES);
    symlinkSync(path.join(parent, 'elsewhere'), path.join(directory, 'base/link'));
    await target.remove();
    assert.deepEqual(tree(parent), ['elsewhere', 'elsewhere/mine']);
  });

  test('a directory that is a link to an empty one stays a link', async (t) => {
    const parent = await temporaryDirectory(t);
    mkdirSync(path.join(parent, 'disk'));
    symlinkSync(path.join(parent, 'disk'), path.join(parent, 'backup'));
    const target = targetAt(path.join(parent, 'backup'));
    target.prepare(0o700, DIRECTORIES);
    assert.ok(existsSync(path.join(parent, 'disk/base/1')));
    await target.remove();
    assert.deepEqual(tree(parent), ['backup', 'disk']);
  });

  test('may be asked twice, and before anything was made', async (t) => {
    const parent = await temporaryDirectory(t);
    const target = targetAt(path.join(parent, 'backup'));
    await target.remove();
    target.prepare(0o700, DIRECTORIES);
    await target.remove();
    await target.remove();
    assert.deepEqual(tree(parent), []);
  });

  test('a preparation that failed half way leaves nothing', async (t) => {
    const parent = await temporaryDirectory(t);
    const target = targetAt(path.join(parent, 'backup'));
    const listed = [...DIRECTORIES, { target: 'no/parent', mode: 0o700 }];
    assert.throws(() => target.prepare(0o700, listed), { code: 'target_io' });
    await target.remove();
    assert.deepEqual(tree(parent), []);
  });
});
