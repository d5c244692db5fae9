import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseLsn } from '../../src/lsn.js';
import { formatRecovery, signalPath, type Recovery } from '../../src/restore/recovery.js';

const NOTHING: Recovery = {
  mode: 'archive',
  target: undefined,
  inclusive: undefined,
  action: undefined,
  timeline: undefined,
  restoreCommand: undefined,
  primaryConninfo: undefined,
};

const DEFAULTS = [
  "recovery_target_inclusive = 'true'",
  "recovery_target_action = 'pause'",
  "recovery_target_timeline = 'latest'",
];

test('one target is set, last of all: an earlier recovery may have left others', () => {
  const lsn = parseLsn('16/B374D848');
  assert.ok(lsn !== undefined);
  const recovery = { ...NOTHING, target: { kind: 'lsn', lsn }, restoreCommand: `cp '/a b/%f' "%p"` } as const;
  assert.deepEqual(formatRecovery(recovery).split('\n'), [
    "recovery_target = ''",
    "recovery_target_name = ''",
    "recovery_target_time = ''",
    "recovery_target_xid = ''",
    "recovery_target_lsn = '16/B374D848'",
    ...DEFAULTS,
    `restore_command = 'cp ''/a b/%f'' "%p"'`,
    '',
  ]);
  assert.equal(signalPath(recovery), 'recovery.signal');
});

test('a standby has no target', () => {
  const recovery = { ...NOTHING, mode: 'standby', timeline: '7', primaryConninfo: 'host=db1' } as const;
  const lines = formatRecovery(recovery).split('\n');
  assert.equal(lines.filter((line) => line.endsWith("= ''")).length, 5);
  assert.ok(lines.includes("recovery_target_timeline = '7'"));
  assert.ok(lines.includes("primary_conninfo = 'host=db1'"));
  assert.equal(signalPath(recovery), 'standby.signal');
});
