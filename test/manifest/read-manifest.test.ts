/*
 * Manifests good and bad. What is bad about the bad ones is from PostgreSQL's src/bin/pg_verifybackup/t/005_bad_manifest.pl;
 * where pg_verifybackup is installed, it is asked too and must say the same.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, test } from 'node:test';
import { ConvoyError } from '../../src/errors.js';
import { encodeFileName } from '../../src/file-name-bytes.js';
import type { BackupManifest } from '../../src/manifest/manifest.js';
import { ManifestReading, readManifest } from '../../src/manifest/read-manifest.js';
import { temporaryDirectory } from '../support/cleanup.js';
import { missingTool, run, tool } from '../support/tools.js';

const V1 = '{"PostgreSQL-Backup-Manifest-Version": 1, ';
const FAILURE = 'could not parse backup manifest: ';

/** The text with the checksum that belongs to it. */
function withChecksum(lines: string): string {
  const checksum = createHash('sha256').update(lines).digest('hex');
  return `${lines}"Manifest-Checksum": "${checksum}"}\n`;
}

function file(fields: string): string {
  return withChecksum(`${V1}"Files": [\n{${fields}}],\n`);
}

function range(fields: string): string {
  return withChecksum(`${V1}"WAL-Ranges": [\n{${fields}}],\n`);
}

interface BadManifest {
  readonly text: string | Buffer;
  readonly says: string;
  /** 15 goes by other rules here. */
  readonly only?: 'here';
}

const BAD: readonly BadManifest[] = [
  { text: '', says: `${FAILURE}parsing failed` },
  { text: '{\n', says: `${FAILURE}parsing failed` },
  { text: '{}\n', says: `${FAILURE}unexpected object end` },
  { text: '[]\n', says: `${FAILURE}unexpected array start` },
  { text: '1\n', says: `${FAILURE}unexpected scalar` },
  { text: '{"not-expected": 1}\n', says: `${FAILURE}expected version indicator` },
  {
    text: '{"PostgreSQL-Backup-Manifest-Version": "phooey"}\n',
    says: `${FAILURE}manifest version not an integer`,
    only: 'here',
  },
  {
    text: '{"PostgreSQL-Backup-Manifest-Version": 9876599}\n',
    says: `${FAILURE}unexpected manifest version`,
  },
  {
    text: '{"PostgreSQL-Backup-Manifest-Version": 2, "System-Identifier": "x"}\n',
    says: `${FAILURE}manifest system identifier not an integer`,
    only: 'here',
  },
  { text: `${V1}"Files": true}\n`, says: `${FAILURE}unexpected scalar` },
  { text: `${V1}"Oops": 1}\n`, says: `${FAILURE}unrecognized top-level field` },
  // 15 knows no more than that
  { text: `${V1}"Files": {}}\n`, says: `${FAILURE}unexpected object start` },
  { text: `${V1}"Files": [[]]}\n`, says: `${FAILURE}unexpected array start` },
  { text: `${V1}"Files": [1]}\n`, says: `${FAILURE}unexpected scalar` },
  { text: file(''), says: `${FAILURE}missing path name` },
  {
    text: file('"Path": "x", "Encoded-Path": "1234"'),
    says: `${FAILURE}both path name and encoded path name`,
  },
  { text: file('"Oops": 1'), says: `${FAILURE}unexpected file field` },
  { text: file('"Path": {}'), says: `${FAILURE}unexpected object start` },
  { text: file('"Path": "x"'), says: `${FAILURE}missing size` },
  { text: file('"Path": "x", "Size": "Oops"'), says: `${FAILURE}file size is not an integer` },
  { text: file('"Path": "x", "Size": 1.5'), says: `${FAILURE}file size is not an integer` },
  { text: file('"Path": "x", "Size": -1'), says: `${FAILURE}file size is not an integer`, only: 'here' },
  { text: file('"Encoded-Path": "123", "Size": 0'), says: `${FAILURE}could not decode file name` },
  { text: file('"Encoded-Path": "12zz", "Size": 0'), says: `${FAILURE}could not decode file name` },
  {
    text: file('"Path": "x", "Size": 0}, {"Path": "x", "Size": 0'),
    says: 'duplicate path name in backup manifest: "x"',
  },
  {
    text: file('"Path": "x", "Size": 0}, {"Encoded-Path": "78", "Size": 0'),
    says: 'duplicate path name in backup manifest: "x"',
  },
  { text: file('"Path": "x", "Size": 1, "Checksum": "Oops"'), says: `${FAILURE}checksum without algorithm` },
  {
    text: file('"Path": "x", "Size": 1, "Checksum-Algorithm": "Oops", "Checksum": "00"'),
    says: 'unrecognized checksum algorithm: "Oops"',
  },
  {
    text: file('"Path": "x", "Size": 1, "Checksum-Algorithm": "CRC32C", "Checksum": "0"'),
    says: 'invalid checksum for file "x": "0"',
  },
  {
    text: file('"Path": "x", "Size": 1, "Checksum-Algorithm": "CRC32C", "Checksum": "0g"'),
    says: 'invalid checksum for file "x": "0g"',
  },
  { text: range(''), says: `${FAILURE}missing timeline` },
  { text: range('"Timeline": 1'), says: `${FAILURE}missing start LSN` },
  { text: range('"Timeline": 1, "Start-LSN": "0/0"'), says: `${FAILURE}missing end LSN` },
  { text: range('"Oops": 1'), says: `${FAILURE}unexpected WAL range field` },
  {
    text: range('"Timeline": true, "Start-LSN": "0/0", "End-LSN": "0/0"'),
    says: `${FAILURE}timeline is not an integer`,
  },
  {
    text: range('"Timeline": 1, "Start-LSN": "oops", "End-LSN": "0/0"'),
    says: `${FAILURE}could not parse start LSN`,
  },
  {
    text: range('"Timeline": 1, "Start-LSN": "0/0", "End-LSN": "oops"'),
    says: `${FAILURE}could not parse end LSN`,
  },
  {
    text: `${V1}"WAL-Ranges": [\n{"Timeline": 1, "Start-LSN": "0/0", "End-LSN": "0/0"}\n]}\n`,
    says: `${FAILURE}unexpected object end`,
  },
  { text: `${V1}"Files": [], "Manifest-Checksum": null}\n`, says: `${FAILURE}expected at least 2 lines` },
  {
    text: `${V1}\n"Files": [],\n"Manifest-Checksum": null}`,
    says: `${FAILURE}last line not newline-terminated`,
  },
  {
    text: `${V1}"Files": [],\n"Manifest-Checksum": "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz01234567890-"}\n`,
    says: 'invalid manifest checksum: "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz01234567890-"',
  },
  {
    text: `${V1}"Files": [],\n"Manifest-Checksum": "${'0'.repeat(64)}"}\n`,
    says: 'manifest checksum mismatch',
  },
  // no JSON
  { text: `${V1}"Files": [],]\n`, says: `${FAILURE}parsing failed` },
  { text: `${V1}"Files": [,]}\n`, says: `${FAILURE}parsing failed` },
  { text: `${V1}"Files": [\n{"Path": "x",}]}\n`, says: `${FAILURE}parsing failed` },
  { text: `${V1}"Files": [\n{"Path" "x"}]}\n`, says: `${FAILURE}parsing failed` },
  { text: `${V1}"Files": [\n{"Path": x}]}\n`, says: `${FAILURE}parsing failed` },
  { text: `${V1}"Files": [\n{"Path": "x}]}\n`, says: `${FAILURE}parsing failed` },
  { text: `${V1}"Files": [\n{"Path": "\t"}]}\n`, says: `${FAILURE}parsing failed` },
  { text: String.raw`${V1}"Files": [{"Path": "\x"}]}` + '\n', says: `${FAILURE}parsing failed` },
  { text: String.raw`${V1}"Files": [{"Path": "\u0000"}]}` + '\n', says: `${FAILURE}parsing failed` },
  { text: String.raw`${V1}"Files": [{"Path": "\udc80"}]}` + '\n', says: `${FAILURE}parsing failed` },
  { text: `${V1}"Files": [\n{"Path": "x", "Size": 01}]}\n`, says: `${FAILURE}parsing failed` },
  { text: `${withChecksum(`${V1}"Files": [],\n`)}x\n`, says: `${FAILURE}parsing failed` },
  {
    text: Buffer.from(file('"Path": "\u00e9", "Size": 0'), 'latin1'),
    says: `${FAILURE}invalid byte sequence for encoding "UTF8"`,
    only: 'here',
  },
];

/** One that nobody finds fault with, of 17 or newer; Encoded-Path, escapes, all kinds of checksums. */
const GOOD = withChecksum(
  [
    '{ "PostgreSQL-Backup-Manifest-Version": 2,',
    '"System-Identifier": 18446744073709551615,',
    '"Files": [',
    '{ "Path": "base/1/2608", "Size": 8192, "Last-Modified": "2024-02-29 23:59:59 GMT", "Checksum-Algorithm": "CRC32C", "Checksum": "A1b2c3d4" },',
    String.raw`{ "Path": "a \"b\"\\c/\u00e9\n", "Size": 0, "Last-Modified": "2024-02-29 23:59:59 GMT" },`,
    `{ "Encoded-Path": "6469722fff61", "Size": 9007199254740991, "Last-Modified": "", "Checksum-Algorithm": "sha256", "Checksum": "${'0f'.repeat(32)}" }`,
    '],',
    '"WAL-Ranges": [',
    '{ "Timeline": 1, "Start-LSN": "16/B374D848", "End-LSN": "16/B4000000" },',
    '{ "Timeline": 4294967295, "Start-LSN": "16/B4000000", "End-LSN": "FFFFFFFF/FFFFFFFF" }',
    '],',
    '',
  ].join('\n'),
);

function assertGood(manifest: BackupManifest): void {
  assert.equal(manifest.version, 2);
  assert.equal(manifest.systemIdentifier, 18446744073709551615n);
  assert.deepEqual(
    [...manifest.files],
    [
      {
        path: 'base/1/2608',
        size: 8192,
        mtime: Date.parse('2024-02-29T23:59:59Z') / 1000,
        algorithm: 'CRC32C',
        checksum: 'a1b2c3d4',
      },
      {
        path: 'a "b"\\c/é\n',
        size: 0,
        mtime: Date.parse('2024-02-29T23:59:59Z') / 1000,
        algorithm: 'NONE',
        checksum: '',
      },
      {
        path: 'dir/\udcffa',
        size: Number.MAX_SAFE_INTEGER,
        mtime: 0,
        algorithm: 'SHA256',
        checksum: '0f'.repeat(32),
      },
    ].map((recorded) => [recorded.path, recorded]),
  );
  assert.deepEqual(manifest.walRanges, [
    { timeline: 1, startLsn: 0x16b374d848n, endLsn: 0x16b4000000n },
    { timeline: 4294967295, startLsn: 0x16b4000000n, endLsn: 0xffffffffffffffffn },
  ]);
}

describe('a backup manifest', () => {
  test('is read, whatever pieces it comes in', () => {
    const bytes = Buffer.from(GOOD);
    for (let size = 1; size <= bytes.length; size += 1) {
      const reading = new ManifestReading();
      for (let at = 0; at < bytes.length; at += size) reading.push(bytes.subarray(at, at + size));
      assertGood(reading.end());
    }
  });

  test('that has one bit turned anywhere is refused', () => {
    const good = Buffer.from(GOOD);
    for (let bit = 0; bit < good.length * 8; bit += 1) {
      const bytes = Buffer.from(good);
      bytes[bit >>> 3] = (bytes[bit >>> 3] ?? 0) ^ (1 << (bit & 7));
      // the digits of the checksum and the blanks around it may be written in more than one way
      const isSame = isSameChecksum(good, bytes);
      const reading = new ManifestReading();
      const read = (): BackupManifest => {
        reading.push(bytes);
        return reading.end();
      };
      if (!isSame) assert.throws(read, ConvoyError, `bit ${bit}`);
    }
  });

  test('is read from a file; a name that is not UTF-8 leads to its file', async (t) => {
    const directory = await temporaryDirectory(t);
    const manifestFile = path.join(directory, 'backup_manifest');
    await writeFile(manifestFile, GOOD);
    const manifest = readManifest(manifestFile);
    assertGood(manifest);
    const names = [...manifest.files.keys()].map(encodeFileName);
    assert.deepEqual(names, ['base/1/2608', 'a "b"\\c/é\n', Buffer.from('6469722fff61', 'hex')]);
  });

  test('that is not there is named', async (t) => {
    const directory = await temporaryDirectory(t);
    assert.throws(() => readManifest(path.join(directory, 'none')), {
      code: 'target_io',
      message: `could not open file "${directory}/none": No such file or directory`,
    });
  });

  test('without an end of line is given up after a megabyte', () => {
    const reading = new ManifestReading();
    assert.throws(
      () => {
        for (let piece = 0; piece < 32; piece += 1) reading.push(Buffer.alloc(65_536, ' '));
      },
      {
        code: 'file_damaged',
        message: /^could not parse backup manifest: a line of more than 1048576 bytes$/,
      },
    );
  });
});

/** The bytes differ only in the last line, and JSON says the same checksum. */
function isSameChecksum(good: Buffer, bytes: Buffer): boolean {
  const at = good.lastIndexOf('"Manifest-Checksum"');
  if (!good.subarray(0, at).equals(bytes.subarray(0, at))) return false;
  try {
    const [one, other] = [good, bytes].map((each) => {
      const line = JSON.parse(`{${each.toString('utf8', at)}`) as Record<string, string>;
      return line['Manifest-Checksum']?.toLowerCase();
    });
    return one === other && bytes.at(-1) === good.at(-1);
  } catch {
    return false;
  }
}

describe('a bad backup manifest', { concurrency: 2 }, () => {
  for (const [index, { text, says, only }] of BAD.entries()) {
    test(`${index}: ${says}`, async (t) => {
      const directory = await temporaryDirectory(t);
      const manifestFile = path.join(directory, 'backup_manifest');
      await writeFile(manifestFile, text);
      assert.throws(() => readManifest(manifestFile), { code: 'file_damaged', message: says });
      const command = tool('pg_verifybackup');
      if (command === undefined) {
        t.diagnostic(missingTool('pg_verifybackup'));
      } else if (only === undefined) {
        const data = path.join(directory, 'data');
        await mkdir(data);
        const { status, stderr } = await run(command, ['-n', '-m', manifestFile, data]);
        assert.equal(stderr, `pg_verifybackup: error: ${says}\n`);
        assert.equal(status, 1);
      }
    });
  }
});
