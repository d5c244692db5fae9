/*
 * What can be wrong with a backup, with its target, or with what is asked for: each has its message, ends with status 1, and
 * leaves nothing behind. The backup is a small cluster's, as pg_basebackup writes it.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import * as fs from 'node:fs/promises';
import path from 'node:path';
import { before, describe, test, type TestContext } from 'node:test';
import { canEnter, serverAccount } from '../../src/demo/server-account.js';
import { fileScope } from '../server/test-serve.js';
import { temporaryDirectory } from '../support/cleanup.js';
import { readTree } from '../support/directory-tree.js';
import { PROGRAM, pgconvoy } from '../support/pgconvoy.js';
import { testServer } from '../support/postgres.js';
import { smallDisk } from '../support/small-disk.js';
import { missingTool, run, tool, type RunResult } from '../support/tools.js';
import { assertAbsent, assertFailed } from './stage.js';

const MiB = 1024 * 1024;
const TAR_HEADER_BYTES = 512;
const pgBasebackup = tool('pg_basebackup');
const skip = pgBasebackup === undefined && missingTool('pg_basebackup');

const scope = fileScope();
let backups: string;
before(async () => {
  if (pgBasebackup === undefined) return;
  backups = await temporaryDirectory(scope);
  const { host, port, user, password } = await testServer(scope, { major: 15 });
  for (const [format, ...args] of [
    ['plain', '-Fp'],
    ['tar', '-Ft'],
    ['gzip', '-Ft', '-Z', 'client-gzip:1'],
    ['lz4', '-Ft', '-Z', 'client-lz4'],
    ['zstd', '-Ft', '-Z', 'client-zstd:1'],
  ] as const) {
    const made = await run(
      pgBasebackup,
      ['-D', `${backups}/${format}`, '-h', host, '-p', String(port), '-U', user, '-c', 'fast', '-N', ...args],
      { env: { PGPASSWORD: password } },
    );
    assert.equal(made.status, 0, made.stderr);
  }
});

/** A copy of a backup, to be damaged. */
async function copyOf(t: TestContext, format: string): Promise<string> {
  const copy = path.join(await temporaryDirectory(t), format);
  await fs.cp(path.join(backups, format), copy, { recursive: true });
  return copy;
}

/** Changes the first of these bytes in a file. */
async function flip(file: string, text: string): Promise<void> {
  const bytes = await fs.readFile(file);
  const at = bytes.indexOf(text);
  assert.ok(at >= 0, `"${text}" is in ${file}`);
  bytes[at] = (bytes[at] ?? 0) ^ 1;
  await fs.writeFile(file, bytes);
}

async function flipByte(file: string, at: number): Promise<void> {
  const bytes = await fs.readFile(file);
  bytes[at] = (bytes[at] ?? 0) ^ 1;
  await fs.writeFile(file, bytes);
}

/** Where the first record that the backup needs lies, in segments of 16 MB. */
async function walStart(backup: string): Promise<{ readonly segment: string; readonly offset: number }> {
  const manifest = await fs.readFile(path.join(backup, 'backup_manifest'), 'utf8');
  const [, high = '', low = ''] = /"Start-LSN": "([0-9A-F]+)\/([0-9A-F]+)"/.exec(manifest) ?? [];
  const position = Number.parseInt(low, 16);
  const number = Math.floor(position / (16 * MiB));
  const hex = number.toString(16).toUpperCase().padStart(8, '0');
  return { segment: `00000001${high.padStart(8, '0')}${hex}`, offset: position % (16 * MiB) };
}

/** The first segment under the name of a later one. */
async function putWalElsewhere(backup: string): Promise<void> {
  const { segment } = await walStart(backup);
  const directory = path.join(backup, 'pg_wal');
  await fs.rename(path.join(directory, segment), path.join(directory, '0000000100000000000000FE'));
}

/** The manifest changed in this way, its own checksum right again. */
async function editManifest(backup: string, edit: (body: string) => string): Promise<void> {
  const file = path.join(backup, 'backup_manifest');
  const text = await fs.readFile(file, 'utf8');
  const body = edit(text.slice(0, text.indexOf('"Manifest-Checksum"')));
  const checksum = createHash('sha256').update(body).digest('hex');
  await fs.writeFile(file, `${body}"Manifest-Checksum": "${checksum}"}\n`);
}

interface Damage {
  readonly name: string;
  readonly format: string;
  readonly mutilate: (backup: string) => Promise<void>;
  /** Every error line. */
  readonly errors: readonly RegExp[];
  readonly hint?: RegExp;
}

/** What a record's CRC covers begins behind this, mostly. */
const RECORD_HEADER_BYTES = 24;
const WAL_RECORD_DAMAGED =
  /^WAL parsing failed for timeline 1: incorrect resource manager data checksum in record at 0\/[0-9A-F]+$/;
const NOT_AS_MANIFEST = /^the backup is not as its manifest says: \d problems?$/;

const DAMAGES: readonly Damage[] = [
  {
    name: 'files changed, gone, added, and cut short: every one is told',
    format: 'plain',
    mutilate: async (backup) => {
      await flip(path.join(backup, 'pg_hba.conf'), '# PostgreSQL');
      await fs.rm(path.join(backup, 'pg_ident.conf'));
      await fs.writeFile(path.join(backup, 'extra'), '');
      await fs.truncate(path.join(backup, 'base/1/1259'), 8192);
    },
    errors: [
      /^checksum mismatch for file "pg_hba\.conf"$/,
      /^"pg_ident\.conf" is present in the manifest but not in the backup$/,
      /^"extra" is present in the backup but not in the manifest$/,
      /^"base\/1\/1259" has size 8192 in the backup but size \d+ in the manifest$/,
      NOT_AS_MANIFEST,
    ],
  },
  {
    name: 'a bit of a file in an archive',
    format: 'tar',
    mutilate: (backup) => flip(path.join(backup, 'base.tar'), '# PostgreSQL Client Authentication'),
    errors: [/^checksum mismatch for file "pg_hba\.conf"$/, NOT_AS_MANIFEST],
  },
  {
    name: 'the header of a member',
    format: 'tar',
    mutilate: (backup) => flip(path.join(backup, 'base.tar'), 'pg_hba.conf\0'),
    errors: [/^archive "base\.tar" is damaged: invalid tar header$/],
  },
  {
    name: 'an archive cut short',
    format: 'tar',
    mutilate: (backup) => fs.truncate(path.join(backup, 'base.tar'), 3 * MiB + 17),
    errors: [/^archive "base\.tar" is damaged: tar stream ended inside a member$/],
  },
  {
    name: 'a member that leads outside',
    format: 'tar',
    mutilate: async (backup) => {
      await fs.rm(path.join(backup, 'base.tar'));
      const made = await run('tar', [
        '-cPf',
        path.join(backup, 'base.tar'),
        '--transform',
        's,^,../../,',
        '-C',
        backup,
        'backup_manifest',
      ]);
      assert.equal(made.status, 0, made.stderr);
    },
    errors: [/^archive "base\.tar" has a member outside of it: "\.\.\/\.\.\/backup_manifest"$/],
  },
  ...(['gzip', 'lz4', 'zstd'] as const).map((format): Damage => ({
    name: `an archive of ${format} cut short`,
    format,
    mutilate: async (backup) => {
      const name = (await fs.readdir(backup)).find((file) => file.startsWith('base.tar.')) ?? '';
      const { size } = await fs.stat(path.join(backup, name));
      await fs.truncate(path.join(backup, name), size >> 1);
    },
    errors: [
      /^could not decompress archive "base\.tar\.(gz|lz4|zst)": (gzip|lz4|zstd): unexpected end of file$/,
    ],
  })),
  ...(['gzip', 'lz4', 'zstd'] as const).map((format): Damage => ({
    name: `an archive of ${format} with wrong bytes`,
    format,
    mutilate: async (backup) => {
      const name = (await fs.readdir(backup)).find((file) => file.startsWith('base.tar.')) ?? '';
      const file = await fs.open(path.join(backup, name), 'r+');
      await file.write(Buffer.alloc(64, 0xff), 0, 64, MiB);
      await file.close();
    },
    errors: [
      new RegExp(
        String.raw`^could not decompress archive "base\.tar\.\w+": ${format}: |^archive "base\.tar\.\w+" is damaged`,
      ),
    ],
  })),
  {
    name: 'a record of the WAL',
    format: 'plain',
    mutilate: async (backup) => {
      const { segment, offset } = await walStart(backup);
      await flipByte(path.join(backup, 'pg_wal', segment), offset + RECORD_HEADER_BYTES);
    },
    errors: [WAL_RECORD_DAMAGED, NOT_AS_MANIFEST],
  },
  {
    name: 'a record of the WAL',
    format: 'tar',
    mutilate: async (backup) => {
      const { segment, offset } = await walStart(backup);
      const archive = path.join(backup, 'pg_wal.tar');
      assert.ok((await fs.readFile(archive, 'latin1')).startsWith(`${segment}\0`), 'its first member');
      await flipByte(archive, TAR_HEADER_BYTES + offset + RECORD_HEADER_BYTES);
    },
    errors: [WAL_RECORD_DAMAGED, NOT_AS_MANIFEST],
  },
  {
    name: 'a gap in the WAL',
    format: 'plain',
    mutilate: putWalElsewhere,
    errors: [
      /^WAL parsing failed for timeline 1: WAL segment 0000000100000000\w{8} is missing$/,
      NOT_AS_MANIFEST,
    ],
  },
  {
    name: 'no manifest',
    format: 'tar',
    mutilate: (backup) => fs.rm(path.join(backup, 'backup_manifest')),
    errors: [/^could not open file ".*\/backup_manifest": No such file or directory$/],
    hint: /--no-verify/,
  },
  {
    name: 'a changed manifest',
    format: 'tar',
    mutilate: (backup) => flip(path.join(backup, 'backup_manifest'), 'GMT'),
    errors: [/^manifest checksum mismatch$/],
  },
  {
    name: 'no archive of the data directory',
    format: 'tar',
    mutilate: (backup) => fs.rm(path.join(backup, 'base.tar')),
    errors: [/^".*\/tar" is not a backup$/],
    hint: /a backup is a directory with/,
  },
  {
    name: 'a file of another checksum than the rest, which is wrong',
    format: 'plain',
    mutilate: (backup) =>
      editManifest(backup, (body) =>
        body.replace(
          /("Path": "pg_hba\.conf".*)"Checksum-Algorithm": "CRC32C", "Checksum": "\w+"/,
          `$1"Checksum-Algorithm": "SHA256", "Checksum": "${'0'.repeat(64)}"`,
        ),
      ),
    errors: [/^checksum mismatch for file "pg_hba\.conf"$/, NOT_AS_MANIFEST],
  },
  {
    name: 'a link that leads elsewhere',
    format: 'plain',
    mutilate: (backup) => fs.symlink('/etc', path.join(backup, 'log')),
    errors: [/^"log" is not a file or directory$/],
  },
];

function linesAfter({ stderr }: RunResult, prefix: string): string[] {
  return stderr
    .split('\n')
    .filter((line) => line.startsWith(prefix))
    .map((line) => line.slice(prefix.length));
}

describe('a damaged backup', { skip }, () => {
  for (const { name, format, mutilate, errors, hint } of DAMAGES) {
    test(`${name} (${format})`, async (t) => {
      const backup = await copyOf(t, format);
      await mutilate(backup);
      const target = path.join(await temporaryDirectory(t), 'data');
      const result = await pgconvoy(['restore', backup, '-D', target]);
      assert.equal(result.status, 1, result.stderr);
      assert.equal(result.stdout, '');
      const said = linesAfter(result, 'pgconvoy: error: ');
      assert.equal(said.length, errors.length, result.stderr);
      for (const error of errors)
        assert.ok(
          said.some((line) => error.test(line)),
          `${error}: ${result.stderr}`,
        );
      const hints = linesAfter(result, 'pgconvoy: hint: ');
      assert.equal(hints.length, hint === undefined ? 0 : 1, result.stderr);
      if (hint !== undefined) assert.match(hints[0] ?? '', hint);
      await assertAbsent(target);
    });
  }

  test('may lack WAL that comes from elsewhere, but not have damaged WAL', async (t) => {
    const backup = await copyOf(t, 'plain');
    const { segment, offset } = await walStart(backup);
    const parent = await temporaryDirectory(t);
    const recovery = ['--restore-command', 'cp /archive/%f "%p"', '-N'];
    await flipByte(path.join(backup, 'pg_wal', segment), offset + RECORD_HEADER_BYTES);
    const damaged = await pgconvoy(['restore', backup, '-D', path.join(parent, 'damaged'), ...recovery]);
    assert.match(damaged.stderr, /incorrect resource manager data checksum/);
    assert.equal(damaged.status, 1);
    await putWalElsewhere(backup);
    const lacking = await pgconvoy(['restore', backup, '-D', path.join(parent, 'lacking'), ...recovery]);
    assert.deepEqual([lacking.status, lacking.stderr.includes('error')], [0, false], lacking.stderr);
  });

  test('that may not be read is told, whatever may not', async (t) => {
    const account = await serverAccount();
    const reach = await Promise.all(
      [PROGRAM, process.execPath].map((file) => canEnter(path.dirname(file), account)),
    );
    if (reach.includes(false)) return t.skip('the program is out of reach for other accounts');
    for (const [format, locked] of [
      ['plain', 'pg_hba.conf'],
      ['plain', 'base/1'],
      ['tar', 'base.tar'],
      ['gzip', 'base.tar.gz'],
      ['gzip', 'backup_manifest'],
    ] as const) {
      const backup = await copyOf(t, format);
      const parent = path.dirname(backup);
      if (account !== undefined) await run('chown', ['-R', `${account.uid}:${account.gid}`, parent]);
      await fs.chmod(path.join(backup, locked), 0);
      const target = path.join(parent, 'data');
      const result = await pgconvoy(['restore', backup, '-D', target], { account });
      await fs.chmod(path.join(backup, locked), 0o700);
      const [line = '', ...more] = linesAfter(result, 'pgconvoy: error: ');
      assert.match(line, new RegExp(`^could not (open|read|stat) .*${locked}": Permission denied$`));
      assert.deepEqual([result.status, more], [1, []], result.stderr);
      await assertAbsent(target);
    }
  });

  test('is restored all the same when that is asked for, or kept', async (t) => {
    const backup = await copyOf(t, 'tar');
    await flip(path.join(backup, 'base.tar'), '# PostgreSQL Client Authentication');
    const parent = await temporaryDirectory(t);
    const withoutChecksums = await pgconvoy(['restore', backup, '-D', path.join(parent, 'a'), '-s', '-N']);
    assert.equal(withoutChecksums.status, 0, withoutChecksums.stderr);
    const kept = await pgconvoy(['restore', backup, '-D', path.join(parent, 'b'), '-n', '-N']);
    assert.equal(kept.status, 1);
    assert.match(kept.stderr, /^pgconvoy: data directory ".*\/b" not removed at user's request$/m);
    assert.ok((await fs.readdir(path.join(parent, 'b'))).includes('PG_VERSION'));
    await fs.rm(path.join(backup, 'backup_manifest'));
    const unverified = await pgconvoy(['restore', backup, '-D', path.join(parent, 'c'), '--no-verify', '-N']);
    assert.equal(unverified.status, 0, unverified.stderr);
    assert.deepEqual(
      [...(await readTree(path.join(parent, 'c'))).keys()],
      [...(await readTree(path.join(parent, 'a'))).keys()].filter((name) => name !== 'backup_manifest'),
    );
  });
});

describe('a target', { skip }, () => {
  test('that is not empty is refused and left as it is', async (t) => {
    const parent = await temporaryDirectory(t);
    await fs.writeFile(path.join(parent, 'precious'), 'do not touch');
    const backup = path.join(backups, 'tar');
    const expected = { error: /^directory ".*" exists but is not empty$/, hint: /remove or empty it/ };
    assertFailed(await pgconvoy(['restore', backup, '-D', parent]), expected);
    const target = path.join(parent, 'data');
    assertFailed(await pgconvoy(['restore', backup, '-D', target, '--waldir', parent]), expected);
    assert.deepEqual(await fs.readdir(parent), ['precious']);
  });

  test('that was there before gets the mode of the data directory that was backed up', async (t) => {
    const backup = await copyOf(t, 'plain');
    for (const [mode, expected] of [
      [0o700, 0o700],
      [0o750, 0o750],
      // no server would start there
      [0o755, 0o750],
    ] as const) {
      await fs.chmod(backup, mode);
      const target = await temporaryDirectory(t);
      const wal = await temporaryDirectory(t);
      await fs.chmod(wal, 0o755);
      const result = await pgconvoy(['restore', backup, '-D', target, '--waldir', wal, '-N']);
      assert.equal(result.status, 0, result.stderr);
      for (const there of [target, wal]) assert.equal((await fs.stat(there)).mode & 0o777, expected);
    }
  });

  test('that was empty and there before is empty again after a failure, and as it was', async (t) => {
    const backup = await copyOf(t, 'gzip');
    await flip(path.join(backup, 'backup_manifest'), '"pg_hba.conf"');
    await editManifest(backup, (body) => body);
    const target = await temporaryDirectory(t);
    const { mode } = await fs.stat(target);
    const result = await pgconvoy(['restore', backup, '-D', target]);
    assert.equal(result.status, 1);
    assert.deepEqual(await fs.readdir(target), []);
    assert.equal((await fs.stat(target)).mode, mode);
  });

  test('without room is refused; one that fills up is emptied', async (t) => {
    const disk = await smallDisk(t, 8 * MiB);
    if (disk === undefined) return;
    const target = path.join(disk, 'data');
    assertFailed(await pgconvoy(['restore', path.join(backups, 'lz4'), '-D', target]), {
      error: /^not enough free space at ".*": \d+ MB are needed, 8 MB are free$/,
    });
    // nobody knows beforehand what a stream holds
    const stream = ['sh', '-c', `cat "${backups}/tar/base.tar" | "$0" "$@"`, process.execPath, PROGRAM];
    const result = await run('/usr/bin/env', [...stream, 'restore', '-', '-D', target]);
    assertFailed(result, { error: /^could not (write|create) \w+ ".*": No space left on device$/ });
    assert.deepEqual(await fs.readdir(disk), []);
  });

  test('is removed when the restore is interrupted', async (t) => {
    const target = path.join(await temporaryDirectory(t), 'data');
    const child = spawn(process.execPath, [PROGRAM, 'restore', '-', '-D', target], { stdio: 'pipe' });
    let stderr = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
    const ended = new Promise<number | null>((resolve) => child.once('close', resolve));
    child.stdin.on('error', () => {});
    const archive = await fs.readFile(path.join(backups, 'tar', 'base.tar'));
    // the rest never comes
    child.stdin.write(archive.subarray(0, archive.length >> 1));
    while (!(await fs.readdir(target).catch((): string[] => [])).includes('base')) {
      assert.equal(child.exitCode, null, stderr);
      await new Promise((resolve) => setImmediate(resolve));
    }
    child.kill('SIGINT');
    assert.equal(await ended, 1);
    assert.equal(stderr, 'pgconvoy: error: interrupted by SIGINT\n');
    await assertAbsent(target);
  });
});
