/* The order of members is that of PROTOCOL, "The tar stream of SEND_BACKUP_FILES", its last paragraph. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { Lsn } from '../../src/lsn.js';
import { StopMembers } from '../../src/source/stop-members.js';
import { walSegmentName } from '../../src/pgdata/wal-names.js';
import type { TarHeader } from '../../src/tar/tar-header.js';

const SEGMENT_BYTES = 1024 * 1024;

function member(name: string, size: number, more: Partial<TarHeader> = {}): TarHeader {
  return { name, size, type: 'file', mode: 0o600, mtime: 1_700_000_000, linkName: '', ...more };
}

const CONTROL = member('global/pg_control', 8192);

/** A segment of timeline 1 and its status file. */
function segment(number: number): TarHeader[] {
  const name = `00000001${'0'.repeat(8)}${number.toString(16).toUpperCase().padStart(8, '0')}`;
  return [member(`pg_wal/${name}`, SEGMENT_BYTES), member(`pg_wal/archive_status/${name}.done`, 0)];
}

interface Case {
  readonly includeWal?: boolean;
  readonly startLsn?: number;
  readonly stopLsn?: number;
}

/** From the middle of segment 32 to the middle of segment 34. */
const START = 32 * SEGMENT_BYTES + 40;
const STOP = 34 * SEGMENT_BYTES + 100;

function receive(
  headers: readonly TarHeader[],
  { includeWal = true, startLsn = START, stopLsn = STOP }: Case = {},
): string[] {
  const received: string[] = [];
  const members = new StopMembers(
    { begin: ({ path }) => received.push(path), data: () => undefined, end: () => received.push('end') },
    { includeWal, segmentBytes: SEGMENT_BYTES, startLsn: BigInt(startLsn) as Lsn },
  );
  for (const header of headers) {
    members.begin(header);
    members.end();
  }
  members.finish(BigInt(stopLsn) as Lsn);
  return received.filter((path) => path !== 'end');
}

const WAL = [...segment(32), ...segment(33), ...segment(34)];

describe('received', () => {
  test('pg_control, WAL with its status files, history files', () => {
    const history = [
      member('pg_wal/00000001.history', 42),
      member('pg_wal/archive_status/00000001.history.done', 0),
    ];
    const all = [CONTROL, ...WAL, ...history];
    assert.deepEqual(
      receive(all),
      all.map(({ name }) => name),
    );
  });

  test('pg_control alone, where no WAL was asked for', () => {
    assert.deepEqual(receive([CONTROL], { includeWal: false }), ['global/pg_control']);
  });

  test('a segment from more than one timeline', () => {
    const other = '00000002' + '0'.repeat(8) + '00000021';
    const twice = [
      member(`pg_wal/${other}`, SEGMENT_BYTES),
      member(`pg_wal/archive_status/${other}.done`, 0),
    ];
    receive([CONTROL, ...segment(32), ...segment(33), ...twice, ...segment(34)]);
  });

  test('no segment past the one that the end lies behind', () => {
    receive([CONTROL, ...segment(32)], { stopLsn: 33 * SEGMENT_BYTES });
    assert.throws(() => receive([CONTROL, ...segment(32)], { stopLsn: 33 * SEGMENT_BYTES + 1 }), {
      code: 'wal_missing',
    });
  });

  test('segments of a high position', () => {
    const high = (2 ** 32 - 1) * 2 ** 20;
    const name = `0000000A000FFFFF00000FFF`;
    receive([CONTROL, member(`pg_wal/${name}`, SEGMENT_BYTES)], { startLsn: high + 1, stopLsn: high + 2 });
  });
});

const UNASKED = { code: 'untrusted_peer', message: /what was not asked for/ };
const NAME = '000000010000000000000020';

describe('refused', () => {
  const refused: readonly (readonly [name: string, headers: readonly TarHeader[], more?: Case])[] = [
    ['WAL that was not asked for', [CONTROL, ...segment(32)], { includeWal: false }],
    [
      'a history file that was not asked for',
      [CONTROL, member('pg_wal/00000002.history', 1)],
      { includeWal: false },
    ],
    ['pg_control after WAL', [...segment(32), CONTROL]],
    ['pg_control twice', [CONTROL, CONTROL]],
    ['a short pg_control', [member('global/pg_control', 8191)]],
    ['an empty pg_control', [member('global/pg_control', 0)]],
    ['a large pg_control', [member('global/pg_control', 2 ** 40)]],
    ['pg_control as a link', [member('global/pg_control', 0, { type: 'link', linkName: '/etc/passwd' })]],
    ['pg_control as a directory', [member('global/pg_control', 0, { type: 'directory' })]],
    ['a segment twice', [CONTROL, ...segment(32), ...segment(32)]],
    ['a segment from before the start', [CONTROL, ...segment(31), ...WAL]],
    ['segments out of order', [CONTROL, ...segment(32), ...segment(33), ...segment(32)]],
    [
      'a segment after history files',
      [CONTROL, ...segment(32), member('pg_wal/00000002.history', 42), ...segment(33)],
    ],
    ['a status file of another file', [CONTROL, ...segment(32), ...segment(32).slice(1)]],
    ['a status file without its file', [CONTROL, ...segment(32).slice(1)]],
    ['a short segment', [CONTROL, member(`pg_wal/${NAME}`, SEGMENT_BYTES - 1)]],
    ['a segment of another size', [CONTROL, member(`pg_wal/${NAME}`, 16 * SEGMENT_BYTES)]],
    [
      'a segment that this size does not have',
      [CONTROL, member('pg_wal/000000010000000000001000', SEGMENT_BYTES)],
    ],
    ['a segment as a link', [CONTROL, member(`pg_wal/${NAME}`, 0, { type: 'link', linkName: '/tmp' })]],
    ['a segment elsewhere', [CONTROL, member(NAME, SEGMENT_BYTES)]],
    ['a segment further down', [CONTROL, member(`pg_wal/x/${NAME}`, SEGMENT_BYTES)]],
    ['a segment by a way around', [CONTROL, member(`pg_wal/../pg_wal/${NAME}`, SEGMENT_BYTES)]],
    ['a segment by its dot', [CONTROL, member(`./pg_wal/${NAME}`, SEGMENT_BYTES)]],
    ['a partial segment', [CONTROL, member(`pg_wal/${NAME}.partial`, SEGMENT_BYTES)]],
    ['a status file with content', [CONTROL, member(`pg_wal/archive_status/${NAME}.done`, 1)]],
    ['a status file of another kind', [CONTROL, member(`pg_wal/archive_status/${NAME}.ready`, 0)]],
    ['a status file of nothing', [CONTROL, member('pg_wal/archive_status/x.done', 0)]],
    ['a large history file', [CONTROL, member('pg_wal/00000002.history', 16 * 1024 * 1024 + 1)]],
    ['another file', [CONTROL, member('PG_VERSION', 3)]],
    ['a way out', [CONTROL, member('../x', 0)]],
    ['an absolute path', [CONTROL, member('/etc/passwd', 0)]],
    ['no name', [CONTROL, member('', 0)]],
  ];
  for (const [name, headers, more] of refused) {
    test(name, () => assert.throws(() => receive(headers, more), UNASKED));
  }

  test('an answer without pg_control', () => {
    assert.throws(() => receive([]), {
      code: 'untrusted_peer',
      message: /did not send "global\/pg_control"/,
    });
    assert.throws(() => receive(WAL), {
      code: 'untrusted_peer',
      message: /did not send "global\/pg_control"/,
    });
  });

  test('an end before the start', () => {
    assert.throws(() => receive([CONTROL], { stopLsn: START - 1, includeWal: false }), {
      code: 'untrusted_peer',
    });
  });

  for (const [name, missing] of [
    ['the first', [...segment(33), ...segment(34)]],
    ['one in the middle', [...segment(32), ...segment(34)]],
    ['the last', [...segment(32), ...segment(33)]],
    ['every', []],
  ] as const) {
    test(`a gap: ${name} segment`, () =>
      assert.throws(() => receive([CONTROL, ...missing]), { code: 'wal_missing' }));
  }

  test('an end at the end of all WAL is found out at once', () => {
    const before = performance.now();
    const members = new StopMembers(
      { begin: () => {}, data: () => undefined, end: () => {} },
      { includeWal: true, segmentBytes: SEGMENT_BYTES, startLsn: 40n as Lsn },
    );
    members.begin(CONTROL);
    assert.throws(() => members.finish(0xffff_ffff_ffff_ffffn as Lsn), { code: 'wal_missing' });
    assert.ok(performance.now() - before < 100);
  });

  test('WAL from after the end', () => {
    assert.throws(() => receive([CONTROL, ...WAL, ...segment(35)]), {
      code: 'untrusted_peer',
      message: /from after the end of the backup/,
    });
  });

  test('WAL without end', () => {
    const segmentBytes = 1024 * 1024 * 1024;
    const members = new StopMembers(
      { begin: () => {}, data: () => undefined, end: () => {} },
      { includeWal: true, segmentBytes, startLsn: 0n as Lsn },
    );
    let sent = 0;
    assert.throws(() => {
      for (; sent <= 100_000; sent += 1) {
        const name = walSegmentName({ timeline: 1, segmentNumber: BigInt(sent) }, segmentBytes);
        members.begin(member(`pg_wal/${name}`, segmentBytes));
        members.end();
      }
    }, UNASKED);
    // 64 TiB
    assert.equal(sent, 65_536);
  });

  test('history files without end', () => {
    const history = Array.from({ length: 10_001 }, (_, at) =>
      member(`pg_wal/${at.toString(16).toUpperCase().padStart(8, '0')}.history`, 42),
    );
    receive([CONTROL, ...WAL, ...history.slice(1)]);
    assert.throws(() => receive([CONTROL, ...WAL, ...history]), UNASKED);
  });
});
