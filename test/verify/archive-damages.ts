/*
 * What can be wrong with a backup that consists of tar archives, compressed or not, and what is said of it. For
 * damages.test.ts. pg_verifybackup 15 knows no archives; the words are those of 18's, where it has words.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  mkdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { gunzipSync, gzipSync } from 'node:zlib';
import { run } from '../support/tools.js';
import { editManifest, segmentsIn, type Damage, type TakenBackups } from './damaged-backup.js';

const WAL = 'WAL parsing failed for timeline 1';
const THEIRS = undefined;
const MISSING = '"EACHFILE" is present in the manifest but not on disk';

async function tar(...args: readonly string[]): Promise<void> {
  const { status, stderr } = await run('tar', args);
  assert.equal(status, 0, stderr);
}

/** Turns a bit of what stands `distance` bytes after a text. */
function flipAfter(file: string, text: string, distance: number): void {
  const bytes = readFileSync(file);
  const at = bytes.indexOf(text);
  assert.ok(at > 0, `"${text}" is in the archive`);
  bytes[at + distance] = (bytes[at + distance] ?? 0) ^ 1;
  writeFileSync(file, bytes);
}

/** In a row of "filled". */
const ROW = createHash('md5').update('15000').digest('hex');
/** From the name in its header, into the second half of a segment. */
const SEGMENT_DISTANCE = 512 + 700_001;

function segmentMember({ plain }: TakenBackups, index: number): string {
  return `pg_wal/${segmentsIn(plain)[index]}`;
}

/** The WAL segments of each backup are its own. */
async function firstSegment(archive: string): Promise<string> {
  const { stdout } = await run('tar', ['-tf', archive]);
  return stdout.split('\n').find((name) => /^pg_wal\/[0-9A-F]{24}$/.test(name)) ?? '';
}

/** Unpacks base.tar.gz, has it changed, and packs it again. */
async function repacked(directory: string, change: (archive: string) => Promise<void> | void): Promise<void> {
  const packed = path.join(directory, 'base.tar.gz');
  const archive = path.join(directory, 'unpacked');
  writeFileSync(archive, gunzipSync(readFileSync(packed)));
  await change(archive);
  writeFileSync(packed, gzipSync(readFileSync(archive), { level: 1 }));
  rmSync(archive);
}

export const ARCHIVE_DAMAGES: Readonly<Record<'tar' | 'gzip' | 'lz4' | 'zstd', readonly Damage[]>> = {
  tar: [
    { name: 'nothing', options: ['--page-checksums'], mutilate: () => {}, says: [], theirs: THEIRS },
    {
      name: 'a file is missing, another is new, beside something else',
      mutilate: async (directory) => {
        const archive = path.join(directory, 'base.tar');
        writeFileSync(path.join(directory, 'extra'), '');
        await tar('--delete', '-f', archive, 'PG_VERSION');
        await tar('-rf', archive, '-C', directory, 'extra');
      },
      says: [
        '"PG_VERSION" is present in the manifest but not on disk',
        'file "extra" is not expected in a tar format backup',
        'file "extra" is present in archive "base.tar" but not in the manifest',
      ],
      theirs: THEIRS,
    },
    {
      name: 'a bit of a page is turned',
      options: ['--page-checksums'],
      mutilate: (directory) => flipAfter(path.join(directory, 'base.tar'), ROW, 3),
      says: [
        'checksum mismatch for file "RELATION" in archive "base.tar"',
        'checksum verification failed in file "RELATION", block #: calculated # but expected #',
      ],
      theirs: THEIRS,
    },
    {
      name: 'a tablespace is missing',
      options: ['-F', 't', '-e'],
      mutilate: (directory, { tablespace }) => rmSync(path.join(directory, `${tablespace}.tar`)),
      says: ['"pg_tblspc/TABLESPACE/#" is present in the manifest but not on disk'],
      theirs: THEIRS,
    },
    {
      name: 'the archive of the data directory is missing',
      mutilate: (directory) => rmSync(path.join(directory, 'base.tar')),
      says: [MISSING, `${WAL}: could not find any WAL file`],
      theirs: THEIRS,
    },
    {
      name: 'the archive of the data directory may not be read',
      byOrdinaryUser: true,
      mutilate: (directory) => chmodSync(path.join(directory, 'base.tar'), 0),
      says: [
        'could not open file "base.tar": Permission denied',
        MISSING,
        `${WAL}: could not find any WAL file`,
      ],
      theirs: THEIRS,
    },
    {
      name: 'it is said to be a plain backup',
      options: ['-F', 'p', '-n', '-i', 'pg_tblspc'],
      mutilate: () => {},
      says: [
        '"TABLESPACE.tar" is present on disk but not in the manifest',
        '"base.tar" is present on disk but not in the manifest',
        MISSING,
      ],
      theirs: THEIRS,
    },
    {
      name: 'what looks like a plain backup is said to be none',
      options: ['-F', 't'],
      mutilate: (directory) => {
        writeFileSync(path.join(directory, 'PG_VERSION'), '15\n');
        mkdirSync(path.join(directory, 'global'));
        symlinkSync('/nonexistent', path.join(directory, 'pg_xact'));
      },
      says: [
        'could not stat file or directory "pg_xact": No such file or directory',
        'file "PG_VERSION" is not expected in a tar format backup',
        'file "global" is not a regular file',
      ],
      theirs: THEIRS,
    },
    {
      name: 'the archive is cut short',
      mutilate: (directory) => truncateSync(path.join(directory, 'base.tar'), 5_000_000),
      says: [
        'archive "base.tar" ends before # files of the manifest',
        'archive "base.tar" is damaged: #',
        `${WAL}: could not find any WAL file`,
      ],
      theirs: THEIRS,
    },
    {
      name: 'a record of the WAL is damaged',
      mutilate: async (directory) => {
        const archive = path.join(directory, 'base.tar');
        // in the record with which the backup began
        flipAfter(archive, await firstSegment(archive), 512 + 60);
      },
      says: [`${WAL}: incorrect resource manager data checksum in record at #`],
      theirs: THEIRS,
    },
    {
      name: 'all in one archive, without one of its WAL segments',
      place: 'all.tar',
      mutilate: async (directory, backups) => {
        const archive = path.join(directory, 'all.tar');
        await tar('-chf', archive, `--exclude=./${segmentMember(backups, 1)}`, '-C', backups.plain, '.');
      },
      says: [`${WAL}: WAL segment SEGMENT is missing`],
      theirs: THEIRS,
    },
    {
      name: 'nothing, all in one archive',
      place: 'all.tar',
      mutilate: async (directory, { plain }) => {
        await tar('-chf', path.join(directory, 'all.tar'), '-C', plain, '.');
      },
      says: [],
      theirs: THEIRS,
    },
  ],
  gzip: [
    { name: 'nothing', options: ['--page-checksums'], mutilate: () => {}, says: [], theirs: THEIRS },
    {
      name: 'nothing, all in one archive, with WAL of several segments',
      place: 'all.tar.gz',
      mutilate: async (directory, { plain }) => {
        await tar('-czhf', path.join(directory, 'all.tar.gz'), '--sort=name', '-C', plain, '.');
      },
      says: [],
      theirs: THEIRS,
    },
    {
      name: 'all in one archive, without one of its WAL segments, and with another that is damaged',
      place: 'all.tar.gz',
      mutilate: async (directory, backups) => {
        const archive = path.join(directory, 'all.tar');
        const members = ['--sort=name', '--transform=s,^\\./,,', '-C', backups.plain, '.'];
        await tar('-chf', archive, `--exclude=./${segmentMember(backups, 1)}`, ...members);
        flipAfter(archive, segmentMember(backups, 2), SEGMENT_DISTANCE);
        writeFileSync(`${archive}.gz`, gzipSync(readFileSync(archive), { level: 1 }));
      },
      says: [
        `${WAL}: WAL segment SEGMENT is missing`,
        `${WAL}: incorrect resource manager data checksum in record at #`,
      ],
      theirs: THEIRS,
    },
    {
      name: 'a bit of a page is turned',
      options: ['--page-checksums'],
      mutilate: (directory) => repacked(directory, (archive) => flipAfter(archive, ROW, 3)),
      says: [
        'checksum mismatch for file "RELATION" in archive "base.tar.gz"',
        'checksum verification failed in file "RELATION", block #: calculated # but expected #',
      ],
      theirs: THEIRS,
    },
    {
      name: 'the archive of a tablespace may not be read',
      byOrdinaryUser: true,
      options: ['-e'],
      mutilate: (directory, { tablespace }) => chmodSync(path.join(directory, `${tablespace}.tar.gz`), 0),
      says: ['could not open file "TABLESPACE.tar.gz": Permission denied'],
      theirs: THEIRS,
    },
    {
      name: 'a file is missing, another is new',
      mutilate: async (directory) => {
        writeFileSync(path.join(directory, 'extra'), '');
        await repacked(directory, async (archive) => {
          await tar('--delete', '-f', archive, 'PG_VERSION');
          await tar('-rf', archive, '-C', directory, 'extra');
        });
        rmSync(path.join(directory, 'extra'));
      },
      says: [
        '"PG_VERSION" is present in the manifest but not on disk',
        'file "extra" is present in archive "base.tar.gz" but not in the manifest',
      ],
      theirs: THEIRS,
    },
    {
      name: 'a record of the WAL is damaged',
      mutilate: (directory) =>
        repacked(directory, async (archive) => flipAfter(archive, await firstSegment(archive), 512 + 60)),
      says: [`${WAL}: incorrect resource manager data checksum in record at #`],
      theirs: THEIRS,
    },
    {
      name: 'the manifest has the WAL end where it starts',
      mutilate: (directory) =>
        editManifest(directory, (lines) =>
          lines.replace(/("Start-LSN": )("[^"]*")(, "End-LSN": )".*"/, '$1$2$3$2'),
        ),
      says: [`${WAL}: could not find a valid record after #`],
      theirs: THEIRS,
    },
    {
      name: 'the archive is cut short',
      options: ['-n'],
      mutilate: (directory) => truncateSync(path.join(directory, 'base.tar.gz'), 500_000),
      says: [
        'archive "base.tar.gz" ends before # files of the manifest',
        'could not decompress archive "base.tar.gz": gzip: #',
      ],
      theirs: THEIRS,
    },
    {
      name: 'a bit of the archive is turned',
      options: ['-n'],
      mutilate: (directory) => {
        const archive = path.join(directory, 'base.tar.gz');
        const bytes = readFileSync(archive);
        // the CRC at its end
        bytes[bytes.length - 6] = (bytes.at(-6) ?? 0) ^ 1;
        writeFileSync(archive, bytes);
      },
      says: ['could not decompress archive "base.tar.gz": gzip: #'],
      theirs: THEIRS,
    },
  ],
  lz4: damagesOfOther('lz4', 'lz4'),
  zstd: damagesOfOther('zstd', 'zst'),
};

/** What the others have, too: where the archive ends too early, and where it is no such archive any more. */
function damagesOfOther(method: 'lz4' | 'zstd', ending: string): readonly Damage[] {
  const name = `base.tar.${ending}`;
  const says = [
    `archive "${name}" ends before # files of the manifest`,
    `could not decompress archive "${name}": ${method}: #`,
  ];
  return [
    {
      name: 'the archive is cut short',
      options: ['-n'],
      mutilate: (directory) => truncateSync(path.join(directory, name), 500_000),
      says,
      theirs: THEIRS,
    },
    {
      name: 'bytes of the archive are others',
      options: ['-n'],
      mutilate: (directory) => {
        const archive = path.join(directory, name);
        const bytes = readFileSync(archive);
        // in the frame's structure: what is behind it may decode to something else
        bytes.fill(0xff, 7, 71);
        writeFileSync(archive, bytes);
      },
      says,
      theirs: THEIRS,
    },
  ];
}
