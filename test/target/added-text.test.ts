import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { TargetWithAddedText } from '../../src/target/added-text.js';
import { openTarget } from '../../src/target/open-target.js';
import type { Target, TargetFile } from '../../src/target/target.js';
import { temporaryDirectory, type TestScope } from '../support/cleanup.js';

const FILE = { path: 'postgresql.auto.conf', size: 6, mode: 0o640, mtime: 1_700_000_000 };

async function prepare(t: TestScope): Promise<{ readonly target: Target; readonly directory: string }> {
  const directory = path.join(await temporaryDirectory(t), 'backup');
  mkdirSync(directory);
  const addedText = [{ path: FILE.path, text: 'y = ü\n' }];
  return { directory, target: openTarget({ kind: 'directory', directory, tablespaces: [], addedText }) };
}

test('a file gets its text at the end, and keeps its permissions and its time', async (t) => {
  const { target, directory } = await prepare(t);
  const writer = target.createFile(FILE);
  void writer.write(Buffer.from('x ='));
  void writer.write(Buffer.from(' 1\n'));
  writer.finish();
  const at = path.join(directory, FILE.path);
  assert.equal(readFileSync(at, 'utf8'), 'x = 1\ny = ü\n');
  const { mode, mtimeMs } = statSync(at);
  assert.deepEqual([mode & 0o777, mtimeMs], [FILE.mode, FILE.mtime * 1000]);
});

test('a file that is given up and written anew gets it once', async (t) => {
  const { target, directory } = await prepare(t);
  const lost = target.createFile(FILE);
  void lost.write(Buffer.from('x ='));
  lost.abandon();
  target.createFile({ ...FILE, size: 0 }).finish();
  assert.equal(readFileSync(path.join(directory, FILE.path), 'utf8'), 'y = ü\n');
});

test('other files are left alone', async (t) => {
  const { target, directory } = await prepare(t);
  target.createFile({ ...FILE, path: 'postgresql.conf' }).finish();
  assert.equal(readFileSync(path.join(directory, 'postgresql.conf'), 'utf8'), '');
});

test('a target that must know sizes beforehand is told of the text', () => {
  const created: TargetFile[] = [];
  const inner: Target = {
    createFile(file) {
      created.push(file);
      return { size: file.size, write: () => undefined, finish: () => {}, abandon: () => {} };
    },
    commit: () => Promise.resolve([]),
    rollback: () => Promise.resolve(true),
  };
  const target = new TargetWithAddedText(inner, [{ path: FILE.path, text: 'y = ü\n' }]);
  assert.equal(target.createFile({ ...FILE, wholeSize: 6, slot: 3 }).size, 6);
  target.createFile(FILE);
  const grown = { ...FILE, size: 13, wholeSize: 13 };
  assert.deepEqual(created, [{ ...grown, slot: 3 }, grown]);
});

test('a file that workers share is refused', async (t) => {
  const { target } = await prepare(t);
  assert.throws(() => target.createFile({ ...FILE, offset: 0 }), {
    code: 'target_io',
    message: 'could not add to file "postgresql.auto.conf": it is too large',
  });
});
