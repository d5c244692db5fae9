/* Wrong use of the built program: one error line as PostgreSQL's programs write it, hints, exit status 1, nothing made. */
import assert from 'node:assert/strict';
import { readdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, test } from 'node:test';
import { temporaryDirectory } from '../support/cleanup.js';
import { pgconvoy } from '../support/pgconvoy.js';

const HELP = 'pgconvoy: hint: try "pgconvoy backup --help" for more information';

/** Arguments after `pgconvoy backup`; DIR becomes a directory that does not exist. */
const WRONG: readonly (readonly [args: readonly string[], ...lines: string[]])[] = [
  [[], 'must specify output directory or backup target', HELP],
  [['-D', '-'], 'cannot write to "-": only tar mode backups go to standard output', HELP],
  [['-D', 'DIR', '-F', 'zip'], 'invalid output format "zip", must be "plain" or "tar"', HELP],
  [['-D', 'DIR', '-z'], 'only tar mode backups can be compressed', HELP],
  [['-D', 'DIR', '-Fp', '-Z', 'zstd:5'], 'only tar mode backups can be compressed', HELP],
  [
    ['-D', 'DIR', '-Ft', '--waldir', '/x'],
    'WAL directory location can only be specified in plain mode',
    HELP,
  ],
  [['-t', 'blackhole', '-Ft'], 'cannot specify both format and backup target', HELP],
  [
    ['-t', 'blackhole', '-Z', 'client-gzip'],
    'client-side compression is not possible when a backup target is specified',
    HELP,
  ],
  [
    ['-t', 'blackhole', '-X', 'none', '-z'],
    'cannot compress on the server: "-z"',
    'pgconvoy: hint: the workers compress what they write, and with a backup target they write nothing',
    HELP,
  ],
  [
    ['-D', 'DIR', '-Z', 'server-gzip'],
    'cannot compress on the server: "server-gzip"',
    'pgconvoy: hint: the workers compress, each the files that it copies: write it without "server-"',
    HELP,
  ],
  [['-D', 'DIR', '--nonsense'], "unrecognized option '--nonsense'", HELP],
  [
    ['-D', 'DIR', '--ma', '5'],
    "option '--ma' is ambiguous; possibilities: '--max-rate' '--manifest-checksums' '--manifest-force-encode' '--max-retries'",
    HELP,
  ],
  [['--pgd', 'DIR', '--check=slow'], 'invalid checkpoint argument "slow", must be "fast" or "spread"', HELP],
  [['-D', 'DIR', '-Q'], "invalid option -- 'Q'", HELP],
  [['-D', 'DIR', '-l'], "option '-l' requires an argument", HELP],
  [['-D', 'DIR', '-t', 'blackhole'], 'cannot specify both output directory and backup target', HELP],
  [['-t', 'grey-hole:x', '-X', 'none'], 'unrecognized target: "grey-hole"', HELP],
  [['-t', 'blackhole:x', '-X', 'none'], 'target "blackhole" does not accept a target detail', HELP],
  [['-t', 'client:x', '-D', 'DIR'], 'cannot specify both output directory and backup target', HELP],
  [['-t', 'server:/backup', '-D', 'DIR'], 'cannot specify both output directory and backup target', HELP],
  [['-t', 'server:/backup', '-Ft'], 'cannot specify both format and backup target', HELP],
  [
    ['-t', 'server:/backup'],
    'WAL cannot be streamed when a backup target is specified',
    'pgconvoy: hint: use "-X none" or "-X fetch"',
    HELP,
  ],
  [
    ['-t', 'server:/backup', '-X', 'fetch', '--waldir', '/w'],
    'WAL directory location cannot be specified along with a backup target',
    HELP,
  ],
  [['-i', 'old_manifest'], 'must specify output directory or backup target', HELP],
  [['-D', 'DIR', '-i'], "option '-i' requires an argument", HELP],
  [
    ['-D', 'DIR', '--incremental=old_manifest'],
    'incremental backups are not supported: every backup is a full one',
    'pgconvoy: hint: leave out -i/--incremental, or take such a backup with pg_basebackup',
    HELP,
  ],
  [
    ['-t', 'server:/backup', '-X', 'none'],
    'backup target "server" is not supported: the files come to this machine, over several connections',
    'pgconvoy: hint: run pgconvoy on the server, or take such a backup with pg_basebackup',
    HELP,
  ],
  [['-D', 'DIR', '--source', 'x'], 'invalid source "x", must be "auto", "walsender", or "sql"', HELP],
  [['-D', 'DIR', '--sync-method', 'x'], 'unrecognized sync method: x', HELP],
  [['-D', 'DIR', '--progress=x'], 'invalid progress style "x", must be "json"', HELP],
  [
    ['-D', 'DIR', '-Pv', '--no-estimate-size'],
    '--progress and --no-estimate-size are incompatible options',
    HELP,
  ],
  [['-D', 'DIR', '--max-retries', '-1'], '--max-retries must be in range 0..1000', HELP],
  [
    ['-D', 'DIR', '--no-manifest', '--manifest-force-encode'],
    '--no-manifest and --manifest-force-encode are incompatible options',
    HELP,
  ],
  [
    ['-t', 'blackhole', '-X', 'none', '-R'],
    'recovery configuration cannot be written when a backup target is used',
    HELP,
  ],
  [
    ['-t', 'blackhole', '-X', 'none', '--waldir', '/w'],
    'WAL directory location cannot be specified along with a backup target',
    HELP,
  ],
  [['-D', 'DIR', '--waldir', 'wal'], 'WAL directory location must be an absolute path', HELP],
  [['-D', 'DIR', 'extra'], 'too many command-line arguments (first is "extra")', HELP],
  [['-D', 'DIR', '-j', 'many'], 'invalid value "many" for option -j/--jobs', HELP],
  [['-D', 'DIR', '-r', '-5'], 'transfer rate must be greater than zero', HELP],
  [['-D', 'DIR', '-X', 'x'], 'invalid wal-method option "x", must be "fetch", "stream", or "none"', HELP],
  [
    ['-t', 'blackhole'],
    'WAL cannot be streamed when a backup target is specified',
    'pgconvoy: hint: use "-X none" or "-X fetch"',
    HELP,
  ],
  [['-D', 'DIR', '-X', 'fetch', '-S', 's'], 'replication slots can only be used with WAL streaming', HELP],
  [['-D', 'DIR', '-S', 's', '--no-slot'], '--no-slot cannot be used with slot name', HELP],
  [['-D', 'DIR', '-C', '-S', 's', '--no-slot'], '--no-slot cannot be used with slot name', HELP],
  [['-D', 'DIR', '-C'], '--create-slot needs a slot to be specified using --slot', HELP],
  [['-D', 'DIR', '-C', '--no-slot'], '--create-slot needs a slot to be specified using --slot', HELP],
  [['-D', 'DIR', '-s', 'often'], 'invalid value "often" for option -s/--status-interval', HELP],
  [['-D', 'DIR', '-s', '2147484'], '-s/--status-interval must be in range 0..2147483', HELP],
  [['-D', 'DIR', '-c', 'slow'], 'invalid checkpoint argument "slow", must be "fast" or "spread"', HELP],
  [['-D', 'DIR', '-T', 'old=new'], 'old directory is not an absolute path in tablespace mapping: old', HELP],
  [
    ['-D', 'DIR', '--manifest-checksums', 'md5'],
    'unrecognized checksum algorithm: "md5"',
    'pgconvoy: hint: one of NONE, CRC32C, SHA224, SHA256, SHA384, SHA512',
    HELP,
  ],
  [
    ['-D', 'DIR', '--no-manifest', '--manifest-checksums', 'sha256'],
    '--no-manifest and --manifest-checksums are incompatible options',
    HELP,
  ],
  [['-D', 'DIR', '-l', 'two\nlines'], 'option -l: a label is one line of at most 1024 bytes', HELP],
  [['-D', 'DIR', '-l', 'ü'.repeat(513)], 'option -l: a label is one line of at most 1024 bytes', HELP],
];

describe('pgconvoy backup', { concurrency: 3 }, () => {
  for (const [args, error, ...hints] of WRONG) {
    test(JSON.stringify(args).slice(0, 80), async (t) => {
      const parent = await temporaryDirectory(t);
      // nobody listens there, should the server be asked after all
      const connection = ['-h', parent, '-w'];
      const given = args.map((each) => (each === 'DIR' ? path.join(parent, 'backup') : each));
      const result = await pgconvoy(['backup', ...connection, ...given], { cwd: parent });
      assert.deepEqual(result.stderr.split('\n'), [`pgconvoy: error: ${error}`, ...hints, '']);
      assert.equal(result.stdout, '');
      assert.equal(result.status, 1);
      assert.deepEqual(readdirSync(parent), []);
    });
  }

  test('a target that is not empty is refused before the server is asked', async (t) => {
    const parent = await temporaryDirectory(t);
    writeFileSync(path.join(parent, 'mine'), '');
    const result = await pgconvoy(['backup', '-h', '/nonexistent', '-w', '-D', parent]);
    assert.deepEqual(result.stderr.split('\n'), [
      `pgconvoy: error: directory "${parent}" exists but is not empty`,
      'pgconvoy: hint: remove or empty it, or name another directory',
      '',
    ]);
    assert.equal(result.status, 1);
  });

  test('a server that is not there is named', async (t) => {
    const parent = await temporaryDirectory(t);
    const result = await pgconvoy([
      'backup',
      '-h',
      parent,
      '-p',
      '5999',
      '-w',
      '-D',
      path.join(parent, 'backup'),
    ]);
    assert.match(
      result.stderr,
      new RegExp(
        `^pgconvoy: error: connection to server on socket "${parent}/.s.PGSQL.5999" failed: No such file or directory\npgconvoy: hint: .*\n$`,
      ),
    );
    assert.equal(result.status, 1);
    assert.deepEqual(readdirSync(parent), []);
  });
});

const WRONG_VERIFY: readonly (readonly [args: readonly string[], error: string])[] = [
  [[], 'no backup directory specified'],
  [['one', 'two'], 'too many command-line arguments (first is "two")'],
  [['--progr', '--qui', 'one'], 'cannot specify both -P/--progress and -q/--quiet'],
  [['-P', '-q', 'one'], 'cannot specify both -P/--progress and -q/--quiet'],
  [['-F', 'x', 'one'], 'invalid backup format "x", must be "plain" or "tar"'],
];

describe('pgconvoy verify', { concurrency: 2 }, () => {
  for (const [args, error] of WRONG_VERIFY) {
    test(`${args.join(' ')}: ${error}`, async () => {
      const result = await pgconvoy(['verify', ...args]);
      assert.deepEqual(result, {
        status: 1,
        stdout: '',
        stderr: `pgconvoy: error: ${error}\npgconvoy: hint: try "pgconvoy verify --help" for more information\n`,
      });
    });
  }
});

describe('pgconvoy', { concurrency: 3 }, () => {
  test('an unknown command', async () => {
    const result = await pgconvoy(['bakcup']);
    assert.equal(result.status, 1);
    assert.match(result.stderr, /^pgconvoy: error: unknown command 'bakcup'/);
    assert.match(result.stderr, /pgconvoy: hint: try "pgconvoy --help" for more information\n$/);
  });

  test('no command shows the help and fails', async () => {
    const result = await pgconvoy([]);
    assert.equal(result.status, 1);
    assert.match(result.stdout + result.stderr, /Usage: pgconvoy/);
  });

  for (const args of [['--help'], ['backup', '-?']]) {
    test(`${args.join(' ')} goes to standard output`, async () => {
      const result = await pgconvoy(args);
      assert.match(result.stdout, /^Usage: pgconvoy/);
      assert.equal(result.stderr, '');
      assert.equal(result.status, 0);
    });
  }

  for (const args of [['-V'], ['backup', '-V'], ['backup', '--version']]) {
    test(args.join(' '), async () => {
      const result = await pgconvoy(args);
      assert.match(result.stdout, /^pgconvoy \d+\.\d+\.\d+\n$/);
      assert.equal(result.status, 0);
    });
  }

  test('the help of backup has the groups of pg_basebackup, and every line fits', async () => {
    const { stdout } = await pgconvoy(['backup', '--help']);
    const groups = [...stdout.matchAll(/^\S.*:$/gm)].map(([line]) => line);
    assert.deepEqual(groups, ['Options controlling the output:', 'General options:', 'Connection options:']);
    assert.deepEqual(
      stdout.split('\n').filter((line) => line.length > 80),
      [],
    );
    assert.match(stdout, /^ {2}-D, --pgdata=DIRECTORY\n {25}receive base backup into directory$/m);
    assert.match(stdout, /^ {2}-l, --label=LABEL {6}set backup label /m);
    assert.match(stdout, /^ {6}--waldir=WALDIR {4}location for the write-ahead log directory$/m);
  });
});
