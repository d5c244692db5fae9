import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { ReportFile } from '../../src/cli/report-file.js';
import { temporaryDirectory } from '../support/cleanup.js';

test('trying leaves nothing, writing leaves the one file', async (t) => {
  const directory = await temporaryDirectory(t);
  const file = path.join(directory, 'report.json');
  const report = new ReportFile(file, [path.join(directory, 'backup')]);
  assert.deepEqual(readdirSync(directory), []);
  report.write({ a: 1 });
  assert.deepEqual(readdirSync(directory), ['report.json']);
  assert.equal(readFileSync(file, 'utf8'), '{\n  "a": 1\n}\n');
  assert.equal(statSync(file).mode & 0o777, 0o600);
});

test('an earlier report stays until it is replaced', async (t) => {
  const directory = await temporaryDirectory(t);
  const file = path.join(directory, 'report.json');
  writeFileSync(file, 'old');
  const report = new ReportFile(file, []);
  assert.equal(readFileSync(file, 'utf8'), 'old');
  report.write({});
  assert.equal(readFileSync(file, 'utf8'), '{}\n');
  assert.deepEqual(readdirSync(directory), ['report.json']);
});

test('a place that is no good is refused at once', async (t) => {
  const directory = await temporaryDirectory(t);
  const hint = 'option --report needs a file outside of the backup';
  for (const name of [
    '',
    directory,
    path.join(directory, 'backup'),
    path.join(directory, 'backup', 'x', 'r'),
  ]) {
    assert.throws(() => new ReportFile(name, [path.join(directory, 'backup')]), {
      code: 'usage',
      message: `cannot write report to "${name}"`,
      hint,
    });
  }
  const gone = path.join(directory, 'gone', 'report.json');
  assert.throws(() => new ReportFile(gone, []), {
    code: 'target_io',
    message: `could not write report "${gone}": No such file or directory`,
  });
  assert.deepEqual(readdirSync(directory), []);
});

test('what has become a directory meanwhile is named', async (t) => {
  const directory = await temporaryDirectory(t);
  const file = path.join(directory, 'report.json');
  const report = new ReportFile(file, []);
  mkdirSync(file);
  writeFileSync(path.join(file, 'mine'), '');
  assert.throws(() => report.write({}), {
    code: 'target_io',
    message: /^could not write report ".*report\.json": /,
  });
  assert.deepEqual(readdirSync(directory), ['report.json']);
});

test('a link is replaced, not followed', async (t) => {
  const directory = await temporaryDirectory(t);
  writeFileSync(path.join(directory, 'other'), 'mine');
  symlinkSync('other', path.join(directory, 'report.json'));
  new ReportFile(path.join(directory, 'report.json'), []).write({});
  assert.equal(readFileSync(path.join(directory, 'other'), 'utf8'), 'mine');
});
