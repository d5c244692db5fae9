/* Manifests are byte for byte those that servers wrote in BASE_BACKUP for the same files. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, test } from 'node:test';
import type { ChecksumAlgorithm } from '../../src/checksum.js';
import { parseLsn, type Lsn } from '../../src/lsn.js';
import { ManifestWriter, type ManifestOptions } from '../../src/manifest/manifest-writer.js';
import {
  manifestVersionOf,
  type ManifestFile,
  type ManifestVersion,
  type WalRange,
} from '../../src/manifest/manifest.js';
import { baseBackup } from '../support/base-backup.js';
import { temporaryDirectory } from '../support/cleanup.js';
import { testServer, type Major } from '../support/postgres.js';

/** A manifest as JSON.parse sees it. */
interface ParsedManifest {
  readonly 'PostgreSQL-Backup-Manifest-Version': ManifestVersion;
  readonly Files: readonly {
    readonly Path: string;
    readonly Size: number;
    readonly 'Last-Modified': string;
    readonly Checksum?: string;
  }[];
  readonly 'WAL-Ranges': readonly {
    readonly Timeline: number;
    readonly 'Start-LSN': string;
    readonly 'End-LSN': string;
  }[];
}

const OPTIONS = {
  version: 1,
  systemIdentifier: 0n,
  algorithm: 'CRC32C',
  encodePaths: false,
  mode: 0o600,
} as const;

/** What the writer makes of this. */
async function write(
  t: Parameters<typeof temporaryDirectory>[0],
  options: Partial<ManifestOptions>,
  files: readonly ManifestFile[],
  ranges: readonly WalRange[],
): Promise<string> {
  const directory = await temporaryDirectory(t);
  using writer = new ManifestWriter({ ...OPTIONS, directory, ...options });
  for (const file of files) writer.addFile(file);
  assert.ok(!existsSync(path.join(directory, 'backup_manifest')), 'no manifest before the end');
  writer.finish(ranges, true);
  assert.deepEqual(readdirSync(directory), ['backup_manifest']);
  return readFileSync(path.join(directory, 'backup_manifest'), 'utf8');
}

const ODD_NAMES = [
  'with blanks',
  "it's",
  'a "quoted" name',
  'back\\slash',
  'new\nline, tab\t, return\r, feed\f, backspace\b',
  'control \u0001\u001b\u001f\u007f',
  'größe 漢 😀',
  'line separators \u2028 \u2029, soft hyphen \u00ad, bom \ufeff',
];

const SERVERS: readonly (readonly [major: Major, algorithms: readonly ChecksumAlgorithm[]])[] = [
  [13, ['CRC32C']],
  [15, ['CRC32C', 'SHA224', 'NONE']],
  [18, ['CRC32C', 'SHA512']],
];

for (const [major, algorithms] of SERVERS) {
  test(`as PostgreSQL ${major} writes it, with ${algorithms.join(', ')}`, { timeout: 60_000 }, async (t) => {
    const server = await testServer(t, { major });
    const extra = path.join(server.dataDirectory, 'extra');
    mkdirSync(extra);
    for (const name of ODD_NAMES) writeFileSync(path.join(extra, name), name);
    for (const algorithm of algorithms) {
      const { manifest } = await baseBackup(server, major, algorithm);
      const parsed = JSON.parse(manifest) as ParsedManifest;
      assert.equal(manifestVersionOf(major), parsed['PostgreSQL-Backup-Manifest-Version']);
      for (const name of ODD_NAMES)
        assert.ok(
          parsed.Files.some((file) => file.Path === `extra/${name}`),
          name,
        );
      const text = await write(
        t,
        {
          version: manifestVersionOf(major),
          // JSON.parse would round it
          systemIdentifier: BigInt(/"System-Identifier": (\d+)/.exec(manifest)?.[1] ?? 0),
          algorithm,
        },
        filesOf(parsed),
        rangesOf(parsed),
      );
      assert.equal(text, manifest);
    }
  });
}

function filesOf(manifest: ParsedManifest): ManifestFile[] {
  return manifest.Files.map((file) => ({
    path: file.Path,
    size: file.Size,
    mtime: Date.parse(file['Last-Modified']) / 1000,
    checksum: file.Checksum ?? '',
  }));
}

function rangesOf(manifest: ParsedManifest): WalRange[] {
  return manifest['WAL-Ranges'].map((range) => ({
    timeline: range.Timeline,
    startLsn: lsn(range['Start-LSN']),
    endLsn: lsn(range['End-LSN']),
  }));
}

function lsn(text: string): Lsn {
  const value = parseLsn(text);
  assert.ok(value !== undefined);
  return value;
}

describe('a manifest', () => {
  test('of many files is written in pieces, and its checksum covers them all', async (t) => {
    const files = Array.from({ length: 20_000 }, (_none, index) => ({
      path: `base/1/größe${index}`,
      size: index,
      mtime: index * 100_000,
      checksum: index.toString(16).padStart(8, '0'),
    }));
    const text = await write(t, {}, files, [{ timeline: 1, startLsn: 1n as Lsn, endLsn: 2n as Lsn }]);
    assert.ok(text.length > 2 * 1024 * 1024);
    const end = text.indexOf('"Manifest-Checksum"');
    const digest = createHash('sha256').update(text.slice(0, end)).digest('hex');
    assert.equal(text.slice(end), `"Manifest-Checksum": "${digest}"}\n`);
    const parsed = JSON.parse(text) as ParsedManifest;
    assert.deepEqual(
      parsed.Files.map((file) => [file.Path, file.Size, file.Checksum]),
      files.map((file) => [file.path, file.size, file.checksum]),
    );
  });

  test('names several WAL ranges, as after a switch of the timeline', async (t) => {
    const ranges = [
      { timeline: 2, startLsn: lsn('0/3000000'), endLsn: lsn('0/3000100') },
      { timeline: 1, startLsn: lsn('0/2000028'), endLsn: lsn('0/3000000') },
    ];
    const text = await write(t, {}, [], ranges);
    assert.match(
      text,
      /\n\],\n"WAL-Ranges": \[\n\{ "Timeline": 2, "Start-LSN": "0\/3000000", "End-LSN": "0\/3000100" \},\n\{ "Timeline": 1, .*\}\n\],\n"Manifest/,
    );
    assert.ok(JSON.parse(text));
  });

  test('holds the largest numbers there are', async (t) => {
    const file = { path: 'x', size: 2 ** 46, mtime: 253_402_300_799, checksum: '00000000' };
    const text = await write(t, { version: 2, systemIdentifier: 2n ** 64n - 1n }, [file], []);
    assert.match(
      text,
      /^\{ "PostgreSQL-Backup-Manifest-Version": 2,\n"System-Identifier": 18446744073709551615,\n/,
    );
    assert.match(text, /"Size": 70368744177664, "Last-Modified": "9999-12-31 23:59:59 GMT", /);
  });

  test('has the permissions asked for, whatever the umask', async (t) => {
    const directory = await temporaryDirectory(t);
    const umask = process.umask(0o077);
    t.after(() => process.umask(umask));
    for (const mode of [0o600, 0o640]) {
      const nested = path.join(directory, mode.toString(8));
      mkdirSync(nested);
      using writer = new ManifestWriter({ ...OPTIONS, directory: nested, mode });
      writer.finish([], false);
      assert.equal(statSync(path.join(nested, 'backup_manifest')).mode & 0o777, mode);
    }
  });

  test('may have all paths in hexadecimal', async (t) => {
    const file = { path: 'ünï', size: 1, mtime: 0, checksum: '00000000' };
    const text = await write(t, { encodePaths: true }, [file], []);
    assert.ok(text.includes('{ "Encoded-Path": "c3bc6ec3af", "Size": 1, "Last-Modified"'), text);
    assert.doesNotMatch(text, /"Path"/);
  });

  test('that is given up has no name of its own', async (t) => {
    const directory = await temporaryDirectory(t);
    const writer = new ManifestWriter({ ...OPTIONS, directory });
    writer.addFile({ path: 'x', size: 1, mtime: 0, checksum: '00000000' });
    writer[Symbol.dispose]();
    writer[Symbol.dispose]();
    assert.deepEqual(readdirSync(directory), ['backup_manifest.tmp']);
  });

  test('is not written over another one, nor where there is no directory', async (t) => {
    const directory = await temporaryDirectory(t);
    writeFileSync(path.join(directory, 'backup_manifest.tmp'), 'mine');
    assert.throws(() => new ManifestWriter({ ...OPTIONS, directory }), {
      code: 'target_io',
      message: `could not create file "${directory}/backup_manifest.tmp": File exists`,
    });
    assert.equal(readFileSync(path.join(directory, 'backup_manifest.tmp'), 'utf8'), 'mine');
    const gone = path.join(directory, 'gone');
    assert.throws(() => new ManifestWriter({ ...OPTIONS, directory: gone }), {
      code: 'target_io',
      message: /No such file or directory/,
    });
  });
});
