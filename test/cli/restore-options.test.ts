/* What `restore` is told wrongly is said before anything is looked at: the backup named here is not there. */
import assert from 'node:assert/strict';
import path from 'node:path';
import { test } from 'node:test';
import { temporaryDirectory } from '../support/cleanup.js';
import { pgconvoy } from '../support/pgconvoy.js';
import { assertAbsent } from '../e2e/stage.js';

const COMMAND = ['--restore-command', 'cp /a/%f %p'];

const TABLE: readonly (readonly [args: readonly string[], error: RegExp])[] = [
  [['--target-lsn', '16/GG', ...COMMAND], /^invalid value "16\/GG" for option --target-lsn$/],
  [['--target-xid', '2', ...COMMAND], /^invalid value "2" for option --target-xid$/],
  [['--target-xid', '18446744073709551616', ...COMMAND], /for option --target-xid$/],
  [['--target-time', 'yesterday', ...COMMAND], /^invalid value "yesterday" for option --target-time$/],
  [['--target-time', '2026-13-01', ...COMMAND], /for option --target-time$/],
  [['--target-name', 'n'.repeat(64), ...COMMAND], /--target-name is too long \(maximum 63 characters\)$/],
  [['--target-timeline', '0', ...COMMAND], /^invalid value "0" for option --target-timeline$/],
  [['--target-action', 'stop', ...COMMAND], /argument 'stop' is invalid/],
  [['--target-inclusive', 'maybe', ...COMMAND], /^invalid value "maybe" for option --target-inclusive$/],
  [['--target-name', 'a', '--target-immediate', ...COMMAND], /^multiple recovery targets specified$/],
  [['--target-action', 'promote', ...COMMAND], /need a recovery target$/],
  [['--target-name', 'a'], /^recovery needs --restore-command$/],
  [['--standby'], /^--standby needs --primary-conninfo or --restore-command$/],
  [['--standby', '--target-name', 'a', ...COMMAND], /incompatible options$/],
  [['--primary-conninfo', 'host=a'], /^--primary-conninfo needs --standby$/],
  [['--waldir', 'relative'], /^WAL directory location must be an absolute path$/],
  [['-s', '--no-verify'], /^--no-verify and --skip-checksums are incompatible options$/],
  [['-T', 'a=b'], /^old directory is not an absolute path/],
  [[], /^could not open directory ".*\/gone": No such file or directory$/],
];

test('options of restore that are wrong, or contradict each other', async (t) => {
  const parent = await temporaryDirectory(t);
  const target = path.join(parent, 'data');
  for (const [args, error] of TABLE) {
    const { status, stdout, stderr } = await pgconvoy([
      'restore',
      path.join(parent, 'gone'),
      '-D',
      target,
      ...args,
    ]);
    assert.equal(status, 1, stderr);
    assert.equal(stdout, '');
    const [line = ''] = stderr.split('\n');
    assert.match(line.replace(/^pgconvoy: error: /, ''), error);
    await assertAbsent(target);
  }
  const { status, stderr } = await pgconvoy(['restore', parent]);
  assert.equal(status, 1);
  assert.match(stderr, /^pgconvoy: error: no data directory specified\n/);
});
