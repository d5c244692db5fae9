/*
 * Texts and meanings are those of the patch's grammar (repl_gram.y, repl_scanner.l) and of PROTOCOL, "Commands".
 * What the patched server answers to a wrong command is a syntax error (42601) or, for MAX_RATE, 22003.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { ConvoyError } from '../../src/errors.js';
import type { Lsn } from '../../src/lsn.js';
import {
  formatReplicationCommand,
  parseReplicationCommand,
  type ParallelCommand,
  type SendBackupFiles,
  type StartBackup,
  type StopBackup,
} from '../../src/replication/command.js';
import { SeededRandom } from '../support/seeded-random.js';

function start(fields: Partial<StartBackup> = {}): StartBackup {
  const defaults = { label: 'start backup', progress: false, fast: false, tablespaceMap: false };
  return { kind: 'start_backup', ...defaults, ...fields };
}

function send(fields: Partial<SendBackupFiles> = {}): SendBackupFiles {
  const defaults = { maxRateKilobytes: undefined, noVerifyChecksums: false, startWalLocation: undefined };
  return { kind: 'send_backup_files', paths: undefined, ...defaults, ...fields };
}

function stop(fields: Partial<StopBackup> = {}): StopBackup {
  return { kind: 'stop_backup', label: undefined, wal: false, noWait: false, ...fields };
}

const UNDERSTOOD: readonly (readonly [text: string, command: ParallelCommand])[] = [
  ['START_BACKUP', start()],
  ['START_BACKUP;', start()],
  [' \t\r\n\f\v START_BACKUP \n ; \n', start()],
  [
    "START_BACKUP LABEL 's' PROGRESS FAST TABLESPACE_MAP",
    start({ label: 's', progress: true, fast: true, tablespaceMap: true }),
  ],
  [
    "START_BACKUP TABLESPACE_MAP FAST LABEL 'x' PROGRESS;",
    start({ label: 'x', progress: true, fast: true, tablespaceMap: true }),
  ],
  ["START_BACKUP FAST LABEL''", start({ label: '', fast: true })],
  ["START_BACKUP LABEL 'it''s'", start({ label: "it's" })],
  ["START_BACKUP LABEL ''''", start({ label: "'" })],
  ["START_BACKUP LABEL 'a\\' FAST", start({ label: 'a\\', fast: true })],
  [String.raw`START_BACKUP LABEL 'a\n\''x'`, start({ label: String.raw`a\n\'x` })],
  ["START_BACKUP LABEL 'two\nlines; FAST'", start({ label: 'two\nlines; FAST' })],
  ["START_BACKUP LABEL 'größer 漢 😀'", start({ label: 'größer 漢 😀' })],
  ['SEND_BACKUP_FILELIST', { kind: 'send_backup_filelist' }],
  ['SEND_BACKUP_FILELIST ;', { kind: 'send_backup_filelist' }],
  ['SEND_BACKUP_FILES', send()],
  ["SEND_BACKUP_FILES ('./PG_VERSION')", send({ paths: ['./PG_VERSION'] })],
  ["SEND_BACKUP_FILES('a','b' , 'c')", send({ paths: ['a', 'b', 'c'] })],
  ["SEND_BACKUP_FILES ( 'a' ) NOVERIFY_CHECKSUMS", send({ paths: ['a'], noVerifyChecksums: true })],
  ["SEND_BACKUP_FILES ('') MAX_RATE 32", send({ paths: [''], maxRateKilobytes: 32 })],
  ["SEND_BACKUP_FILES ('a') MAX_RATE 1048576;", send({ paths: ['a'], maxRateKilobytes: 1_048_576 })],
  ["SEND_BACKUP_FILES ('a') MAX_RATE 0000000100", send({ paths: ['a'], maxRateKilobytes: 100 })],
  [
    "SEND_BACKUP_FILES ('/srv/it''s', './a)(,') START_WAL_LOCATION '16/B374D848' MAX_RATE 64 NOVERIFY_CHECKSUMS",
    send({
      paths: ["/srv/it's", './a)(,'],
      startWalLocation: 0x16_b374_d848n as Lsn,
      maxRateKilobytes: 64,
      noVerifyChecksums: true,
    }),
  ],
  ["SEND_BACKUP_FILES START_WAL_LOCATION '0/0'", send({ startWalLocation: 0n as Lsn })],
  ['STOP_BACKUP', stop()],
  ["STOP_BACKUP LABEL 'a: b\nc: d\n' WAL NOWAIT;", stop({ label: 'a: b\nc: d\n', wal: true, noWait: true })],
  ["STOP_BACKUP NOWAIT WAL LABEL ''", stop({ label: '', wal: true, noWait: true })],
];

describe('understood', () => {
  for (const [text, command] of UNDERSTOOD) {
    test(JSON.stringify(text), () => {
      assert.deepEqual(parseReplicationCommand(text), command);
      assert.deepEqual(parseReplicationCommand(formatReplicationCommand(command)), command);
    });
  }
});

const FORMATTED: readonly (readonly [command: ParallelCommand, text: string])[] = [
  [start({ label: "it's", fast: true }), "START_BACKUP LABEL 'it''s' FAST"],
  [
    start({ progress: true, tablespaceMap: true }),
    "START_BACKUP LABEL 'start backup' PROGRESS TABLESPACE_MAP",
  ],
  [{ kind: 'send_backup_filelist' }, 'SEND_BACKUP_FILELIST'],
  [send(), 'SEND_BACKUP_FILES'],
  [
    send({
      paths: ['./a', "./b'"],
      maxRateKilobytes: 32,
      noVerifyChecksums: true,
      startWalLocation: 0x2_0000_0028n as Lsn,
    }),
    "SEND_BACKUP_FILES ('./a', './b''') MAX_RATE 32 NOVERIFY_CHECKSUMS START_WAL_LOCATION '2/28'",
  ],
  [stop({ label: 'x\n', wal: true, noWait: true }), "STOP_BACKUP LABEL 'x\n' WAL NOWAIT"],
  [stop(), 'STOP_BACKUP'],
];

describe('formatted', () => {
  for (const [command, text] of FORMATTED) {
    test(JSON.stringify(text), () => assert.equal(formatReplicationCommand(command), text));
  }
});

const SYNTAX_ERRORS: readonly (readonly [text: string, near: string])[] = [
  ['START_BACKUP LABEL', 'at end of input'],
  ['START_BACKUP LABEL x', 'at or near "x"'],
  ["START_BACKUP LABEL 'open", `at or near "'open"`],
  ["START_BACKUP LABEL 'a' LABEL 'b'", 'duplicate option "label"'],
  ['START_BACKUP FAST FAST', 'duplicate option "fast"'],
  ['START_BACKUP PROGRESS FAST PROGRESS', 'duplicate option "progress"'],
  ['START_BACKUP TABLESPACE_MAP TABLESPACE_MAP', 'duplicate option "tablespace_map"'],
  ['START_BACKUP fast', 'at or near "fast"'],
  ['START_BACKUP WAL', 'at or near "WAL"'],
  ['START_BACKUP FAST,', 'at or near ","'],
  ['START_BACKUP; START_BACKUP', 'at or near "START_BACKUP"'],
  ['START_BACKUP;;', 'at or near ";"'],
  ['START_BACKUP 1', 'at or near "1"'],
  ['SEND_BACKUP_FILELIST FAST', 'at or near "FAST"'],
  ["SEND_BACKUP_FILELIST 'x'", `at or near "'x'"`],
  ['SEND_BACKUP_FILES ()', 'at or near ")"'],
  ['SEND_BACKUP_FILES (', 'at end of input'],
  ["SEND_BACKUP_FILES ('a'", 'at end of input'],
  ["SEND_BACKUP_FILES ('a',)", 'at or near ")"'],
  ["SEND_BACKUP_FILES ('a' 'b')", `at or near "'b')"`],
  ['SEND_BACKUP_FILES (a)', 'at or near "a)"'],
  ["SEND_BACKUP_FILES 'a'", `at or near "'a'"`],
  ["SEND_BACKUP_FILES MAX_RATE 64 ('a')", `at or near "('a')"`],
  ["SEND_BACKUP_FILES ('a') MAX_RATE", 'at end of input'],
  ["SEND_BACKUP_FILES ('a') MAX_RATE '64'", `at or near "'64'"`],
  ["SEND_BACKUP_FILES ('a') MAX_RATE -64", 'at or near "-64"'],
  ["SEND_BACKUP_FILES ('a') MAX_RATE 4294967296", 'at or near "4294967296"'],
  ["SEND_BACKUP_FILES ('a') MAX_RATE 64 MAX_RATE 64", 'duplicate option "max_rate"'],
  ["SEND_BACKUP_FILES ('a') NOVERIFY_CHECKSUMS NOVERIFY_CHECKSUMS", 'duplicate option "noverify_checksums"'],
  [
    "SEND_BACKUP_FILES ('a') START_WAL_LOCATION '0/1' START_WAL_LOCATION '0/1'",
    'duplicate option "start_wal_location"',
  ],
  ["SEND_BACKUP_FILES ('a') START_WAL_LOCATION 'garbage'", 'at or near "garbage"'],
  ["SEND_BACKUP_FILES ('a') START_WAL_LOCATION ''", 'syntax error'],
  ["SEND_BACKUP_FILES ('a') START_WAL_LOCATION '0/1 '", 'at or near "0/1 "'],
  ["SEND_BACKUP_FILES ('a') START_WAL_LOCATION 0/1", 'at or near "0/1"'],
  ["SEND_BACKUP_FILES ('a') LABEL 'x'", 'at or near "LABEL"'],
  ['STOP_BACKUP WAL WAL', 'duplicate option "wal"'],
  ['STOP_BACKUP NOWAIT WAL NOWAIT', 'duplicate option "nowait"'],
  ["STOP_BACKUP LABEL 'a' LABEL 'a'", 'duplicate option "label"'],
  ['STOP_BACKUP FAST', 'at or near "FAST"'],
  ['STOP_BACKUP wal', 'at or near "wal"'],
];

describe('a syntax error', () => {
  for (const [text, near] of SYNTAX_ERRORS) {
    test(JSON.stringify(text), () => {
      assert.throws(
        () => parseReplicationCommand(text),
        (error) => {
          assert.ok(error instanceof ConvoyError);
          assert.equal(error.code, 'usage');
          assert.equal(error.sqlState, '42601');
          assert.ok(error.message.includes(near), error.message);
          return true;
        },
      );
    });
  }

  test('what is shown of a long command is cut', () => {
    const text = `START_BACKUP ${'x'.repeat(10_000)}`;
    assert.throws(() => parseReplicationCommand(text), /near "x{60}\.\.\."$/);
  });
});

describe('MAX_RATE outside its bounds', () => {
  for (const rate of [0, 1, 31, 1_048_577, 4_294_967_295]) {
    test(`${rate} is 22003`, () => {
      assert.throws(() => parseReplicationCommand(`SEND_BACKUP_FILES ('a') MAX_RATE ${rate}`), {
        sqlState: '22003',
        message: `${rate} is outside the valid range for parameter "MAX_RATE" (32 .. 1048576)`,
      });
    });
  }
});

const OTHERS = [
  'IDENTIFY_SYSTEM',
  'SHOW wal_segment_size',
  "BASE_BACKUP (LABEL 'x')",
  'START_REPLICATION 0/0',
  'start_backup',
  'Start_Backup FAST',
  'send_backup_files',
  'START_BACKUPS',
  'XSTART_BACKUP',
  'SELECT 1',
  '',
  ';',
  "'START_BACKUP'",
  '(',
];

describe('of another kind', () => {
  for (const text of OTHERS) {
    test(JSON.stringify(text), () =>
      assert.deepEqual(parseReplicationCommand(text), { kind: 'other', text }),
    );
  }
});

describe('parse and format are twins', () => {
  const characters = [
    "'",
    "''",
    '"',
    '\\',
    ';',
    '(',
    ')',
    ',',
    '\n',
    '\r',
    '\t',
    ' ',
    'a',
    'WAL',
    'ü',
    '漢',
    '😀',
    '\u0001',
  ];

  function randomCommand(random: SeededRandom): ParallelCommand {
    const text = (): string => random.text(characters, 30);
    switch (random.below(4)) {
      case 0:
        return start({
          label: text(),
          progress: random.chance(2),
          fast: random.chance(2),
          tablespaceMap: random.chance(2),
        });
      case 1:
        return { kind: 'send_backup_filelist' };
      case 2:
        return send({
          paths: random.chance(5) ? undefined : Array.from({ length: 1 + random.below(20) }, text),
          maxRateKilobytes: random.chance(2) ? undefined : 32 + random.below(1_048_545),
          noVerifyChecksums: random.chance(2),
          startWalLocation: random.chance(3) ? undefined : (random.bytes(8).readBigUInt64BE() as Lsn),
        });
      default:
        return stop({
          label: random.chance(4) ? undefined : text(),
          wal: random.chance(2),
          noWait: random.chance(2),
        });
    }
  }

  test('random commands with every kind of character', () => {
    const random = new SeededRandom(60);
    for (let round = 0; round < 5000; round += 1) {
      const command = randomCommand(random);
      assert.deepEqual(parseReplicationCommand(formatReplicationCommand(command)), command);
    }
  });

  test('a damaged command is understood, of another kind, or an error with its SQLSTATE', () => {
    const random = new SeededRandom(61);
    for (let round = 0; round < 5000; round += 1) {
      const text = formatReplicationCommand(randomCommand(random));
      const at = random.below(text.length + 1);
      const damaged = text.slice(0, at) + random.text(characters, 2) + text.slice(at + random.below(3));
      try {
        parseReplicationCommand(damaged);
      } catch (error) {
        assert.ok(error instanceof ConvoyError, String(error));
        assert.match(error.sqlState ?? '', /^(42601|22003)$/);
      }
    }
  });

  test('a thousand long paths take no time', () => {
    const paths = Array.from({ length: 1000 }, (_none, index) => `./${"'".repeat(500)}${index}`);
    const command = send({ paths });
    const before = performance.now();
    assert.deepEqual(parseReplicationCommand(formatReplicationCommand(command)), command);
    assert.ok(performance.now() - before < 1000);
  });

  test('a string of megabytes that never ends is an error, not a wait', () => {
    const before = performance.now();
    for (const filler of ["''", "' '", 'x']) {
      assert.throws(() => parseReplicationCommand(`START_BACKUP LABEL '${filler.repeat(1_000_000)}x`), {
        sqlState: '42601',
      });
    }
    assert.ok(performance.now() - before < 2000);
  });
});
