/* Labels are those that servers returned from the end of a backup. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { formatLsn, type Lsn } from '../../src/lsn.js';
import { formatBackupLabel, parseBackupLabel, type BackupLabel } from '../../src/pgdata/backup-label.js';
import { connect, testServer } from '../support/postgres.js';

for (const major of [13, 15, 18] as const) {
  test(`of PostgreSQL ${major}`, { timeout: 60_000 }, async (t) => {
    const server = await testServer(t, { major, settings: { log_timezone: 'Asia/Kathmandu' } });
    const session = await connect(server);
    const [start, stop] =
      major < 15
        ? [
            'select pg_start_backup($1, true, false)::text as lsn',
            'select labelfile from pg_stop_backup(false, false)',
          ]
        : ['select pg_backup_start($1, true)::text as lsn', 'select labelfile from pg_backup_stop(false)'];
    const segmentOf = 'select pg_walfile_name($1::pg_lsn) as name';
    for (const label of ['it\'s a \\ label: "größe"', '', ' START TIME: x ']) {
      const started = await session.query<{ lsn: string }>(start, [label]);
      const lsn = started.rows[0]?.lsn ?? '';
      const segment = await session.query<{ name: string }>(segmentOf, [lsn]);
      const checkpoint = await session.query<{ lsn: string }>(
        'select checkpoint_lsn::text as lsn from pg_control_checkpoint()',
      );
      const stopped = await session.query<{ labelfile: string }>(stop);
      const text = stopped.rows[0]?.labelfile ?? '';
      const parsed = parseBackupLabel(text);
      assert.equal(formatBackupLabel(parsed), text);
      const { startLsn, checkPoint, startTime, ...rest } = parsed;
      assert.equal(formatLsn(startLsn), lsn);
      assert.equal(formatLsn(checkPoint), checkpoint.rows[0]?.lsn);
      assert.match(startTime, /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \+0545$/);
      assert.deepEqual(rest, {
        startSegment: segment.rows[0]?.name,
        backupFrom: major === 13 ? 'master' : 'primary',
        label,
        startTimeline: 1,
      });
    }
    await session.end();
  });
}

const STANDBY_TEXT = `START WAL LOCATION: 16/B374D848 (file 0000000A00000016000000B3)
CHECKPOINT LOCATION: 16/B374D880
BACKUP METHOD: streamed
BACKUP FROM: standby
START TIME: 2026-01-02 03:04:05 UTC
LABEL: pgconvoy base backup
START TIMELINE: 10
`;
const STANDBY: BackupLabel = {
  startLsn: 0x16_b374_d848n as Lsn,
  startSegment: '0000000A00000016000000B3',
  checkPoint: 0x16_b374_d880n as Lsn,
  backupFrom: 'standby',
  startTime: '2026-01-02 03:04:05 UTC',
  label: 'pgconvoy base backup',
  startTimeline: 10,
};

test('of a standby', () => {
  assert.deepEqual(parseBackupLabel(STANDBY_TEXT), STANDBY);
  assert.equal(formatBackupLabel(STANDBY), STANDBY_TEXT);
});

test('an incremental backup has more lines, which are not ours', () => {
  const text = `${STANDBY_TEXT}INCREMENTAL FROM LSN: 16/B0000028\nINCREMENTAL FROM TLI: 9\n`;
  assert.deepEqual(parseBackupLabel(text), STANDBY);
});

describe('a label that lacks something is refused, with the line named', () => {
  const broken: readonly (readonly [line: string, mutilate: (text: string) => string])[] = [
    ['START WAL LOCATION', () => ''],
    ['START WAL LOCATION', (text) => text.replace('START WAL LOCATION', 'START')],
    ['START WAL LOCATION', (text) => text.replace('16/B374D848', 'nowhere')],
    ['START WAL LOCATION', (text) => text.replace('0000000A00000016000000B3', '../../etc/passwd')],
    ['START WAL LOCATION', (text) => text.replace(' (file', '\n(file')],
    ['CHECKPOINT LOCATION', (text) => text.replace('16/B374D880', '16/')],
    ['BACKUP FROM', (text) => text.replace('standby', 'tape')],
    ['START TIME', (text) => text.replace(/START TIME: .*\n/, '')],
    ['LABEL', (text) => text.replace('LABEL: ', 'LABEL=')],
    ['START TIMELINE', (text) => text.replace('TIMELINE: 10', 'TIMELINE: -1')],
    ['START TIMELINE', (text) => text.replace('TIMELINE: 10', 'TIMELINE: 10 ')],
    ['START TIMELINE', (text) => text.replace('TIMELINE: 10', 'TIMELINE: 12345678901')],
  ];
  for (const [index, [line, mutilate]] of broken.entries()) {
    test(`${index + 1}: ${line}`, () => {
      assert.throws(() => parseBackupLabel(mutilate(STANDBY_TEXT)), {
        code: 'file_damaged',
        message: `invalid backup label: line "${line}" missing or wrong`,
      });
    });
  }
});
