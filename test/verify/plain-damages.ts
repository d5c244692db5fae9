/* What can be wrong with a backup that is a directory, and what is said of it. For damages.test.ts. */
import {
  appendFileSync,
  chmodSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { run } from '../support/tools.js';
import { editManifest, flip, segmentsIn, type Damage } from './damaged-backup.js';

const WAL = 'WAL parsing failed for timeline 1';

export const PLAIN_DAMAGES: readonly Damage[] = [
  { name: 'nothing', mutilate: () => {}, says: [] },
  {
    name: 'a file is missing',
    mutilate: (directory) => rmSync(path.join(directory, 'PG_VERSION')),
    says: ['"PG_VERSION" is present in the manifest but not on disk'],
  },
  {
    name: 'files are there that nobody knows',
    mutilate: (directory) => {
      writeFileSync(path.join(directory, 'extra'), '');
      writeFileSync(path.join(directory, 'base/1/7'), 'x');
      mkdirSync(path.join(directory, 'empty'));
    },
    says: [
      '"base/1/7" is present on disk but not in the manifest',
      '"extra" is present on disk but not in the manifest',
    ],
  },
  {
    name: 'a file is cut short, another has grown',
    mutilate: (directory, { relation }) => {
      truncateSync(path.join(directory, relation), 8192);
      appendFileSync(path.join(directory, 'PG_VERSION'), 'x');
    },
    says: [
      '"PG_VERSION" has size 4 on disk but size 3 in the manifest',
      '"RELATION" has size 8192 on disk but size RELATIONSIZE in the manifest',
    ],
  },
  {
    name: 'one bit is turned, in two files',
    mutilate: (directory, { relation }) => {
      flip(path.join(directory, relation), 100_000);
      flip(path.join(directory, 'global/1262'), -1);
    },
    says: ['checksum mismatch for file "RELATION"', 'checksum mismatch for file "global/1262"'],
  },
  {
    name: 'a bit of a page is turned',
    options: ['--page-checksums'],
    mutilate: (directory, { relation }) => flip(path.join(directory, relation), 100_000),
    says: [
      'checksum mismatch for file "RELATION"',
      'checksum verification failed in file "RELATION", block #: calculated # but expected #',
    ],
    theirs: undefined,
  },
  {
    name: 'a bit of pg_control is turned, which a manifest that names no cluster has nothing else to say of',
    mutilate: (directory) => flip(path.join(directory, 'global/pg_control'), 100),
    says: ['checksum mismatch for file "global/pg_control"'],
  },
  {
    name: 'pg_control is cut short',
    mutilate: (directory) => truncateSync(path.join(directory, 'global/pg_control'), 100),
    says: ['"global/pg_control" has size 100 on disk but size 8192 in the manifest'],
  },
  {
    name: 'a file and a directory may not be read',
    byOrdinaryUser: true,
    options: ['-i', 'pg_tblspc'],
    mutilate: (directory) => {
      chmodSync(path.join(directory, 'PG_VERSION'), 0);
      chmodSync(path.join(directory, 'global/pg_control'), 0);
      chmodSync(path.join(directory, 'base/1'), 0);
    },
    says: [
      'could not open directory "DIRECTORY/base/1": Permission denied',
      'could not open file "PG_VERSION": Permission denied',
      'could not open file "global/pg_control": Permission denied',
    ],
  },
  {
    name: 'pg_control may not be read, and no other file is',
    byOrdinaryUser: true,
    options: ['-s', '-i', 'pg_tblspc'],
    mutilate: (directory) => chmodSync(path.join(directory, 'global/pg_control'), 0),
    says: ['could not open file "global/pg_control": Permission denied'],
    theirs: undefined,
  },
  {
    name: 'the manifest may not be read',
    byOrdinaryUser: true,
    mutilate: (directory) => chmodSync(path.join(directory, 'backup_manifest'), 0),
    says: ['could not open file "DIRECTORY/backup_manifest": Permission denied'],
  },
  {
    name: 'the WAL may not be read',
    byOrdinaryUser: true,
    options: ['-i', 'pg_tblspc'],
    mutilate: (directory) => chmodSync(path.join(directory, 'pg_wal'), 0),
    says: [`${WAL}: could not read directory "DIRECTORY/pg_wal": Permission denied`],
    theirs: [WAL],
  },
  {
    name: 'a file has become a pipe',
    mutilate: async (directory) => {
      rmSync(path.join(directory, 'PG_VERSION'));
      await run('mkfifo', [path.join(directory, 'PG_VERSION')]);
    },
    says: [
      '"PG_VERSION" is not a regular file or directory',
      '"PG_VERSION" is present in the manifest but not on disk',
    ],
    theirs: [
      '"PG_VERSION" is not a file or directory',
      '"PG_VERSION" is present in the manifest but not on disk',
    ],
  },
  {
    name: 'a link leads nowhere',
    mutilate: (directory) => {
      rmSync(path.join(directory, 'PG_VERSION'));
      symlinkSync('/nonexistent', path.join(directory, 'PG_VERSION'));
    },
    says: ['could not stat file or directory "PG_VERSION": No such file or directory'],
  },
  {
    name: 'a tablespace is not there',
    mutilate: (directory, { tablespace }) => {
      rmSync(path.join(directory, 'pg_tblspc', tablespace));
      symlinkSync('/nonexistent', path.join(directory, 'pg_tblspc', tablespace));
    },
    says: ['could not stat file or directory "pg_tblspc/TABLESPACE": No such file or directory'],
  },
  {
    name: 'the manifest is not there',
    mutilate: (directory) => rmSync(path.join(directory, 'backup_manifest')),
    says: ['could not open file "DIRECTORY/backup_manifest": No such file or directory'],
  },
  {
    name: 'the manifest is changed',
    mutilate: (directory) => {
      const file = path.join(directory, 'backup_manifest');
      writeFileSync(file, readFileSync(file, 'utf8').replace('"Size": 3,', '"Size": 4,'));
    },
    says: ['manifest checksum mismatch'],
  },
  {
    name: 'the manifest has a checksum of the wrong length',
    mutilate: (directory) =>
      editManifest(directory, (lines) =>
        lines.replace(/("PG_VERSION".*"Checksum": ")([0-9a-f]{8})/, '$1$2$2'),
      ),
    says: ['file "PG_VERSION" has checksum of length 8, but expected 4'],
  },
  {
    name: 'a file need not be the same if it is ignored, nor what lies below it',
    options: ['-i', 'PG_VERSION', '-i', 'base/'],
    mutilate: (directory, { relation }) => {
      flip(path.join(directory, relation), 1);
      rmSync(path.join(directory, 'PG_VERSION'));
    },
    says: [],
  },
  {
    name: 'content is not looked at without checksums, sizes are',
    options: ['-s'],
    mutilate: (directory, { relation }) => {
      flip(path.join(directory, relation), 1);
      truncateSync(path.join(directory, 'PG_VERSION'), 2);
    },
    says: ['"PG_VERSION" has size 2 on disk but size 3 in the manifest'],
  },
  {
    name: 'only the first problem is told',
    options: ['-e'],
    mutilate: (directory) => {
      rmSync(path.join(directory, 'PG_VERSION'));
      rmSync(path.join(directory, 'global/1262'));
      rmSync(path.join(directory, 'pg_wal'), { recursive: true });
    },
    says: ['"PG_VERSION" is present in the manifest but not on disk'],
    theirs: undefined,
  },
  {
    name: 'a WAL segment is missing',
    mutilate: (directory) => rmSync(path.join(directory, 'pg_wal', segmentsIn(directory)[1] ?? '')),
    says: [`${WAL}: WAL segment SEGMENT is missing`],
    theirs: [WAL],
  },
  {
    name: 'records of two WAL segments are damaged',
    mutilate: (directory) => {
      for (const index of [0, 2]) {
        flip(path.join(directory, 'pg_wal', segmentsIn(directory)[index] ?? ''), 700_001);
      }
    },
    says: [
      `${WAL}: incorrect resource manager data checksum in record at #`,
      `${WAL}: incorrect resource manager data checksum in record at #`,
    ],
    theirs: [WAL],
  },
  {
    name: 'a WAL segment is in the place of another',
    mutilate: (directory) => {
      const [one = '', , other = ''] = segmentsIn(directory);
      renameSync(path.join(directory, 'pg_wal', one), path.join(directory, 'pg_wal', other));
      writeFileSync(path.join(directory, 'pg_wal', one), readFileSync(path.join(directory, 'pg_wal', other)));
    },
    says: [`${WAL}: unexpected pageaddr # in WAL segment #, LSN #, offset 0`],
    theirs: [WAL],
  },
  {
    name: 'a WAL segment is cut short',
    mutilate: (directory) =>
      truncateSync(path.join(directory, 'pg_wal', segmentsIn(directory)[1] ?? ''), 500_000),
    says: [`${WAL}: could not read from file "DIRECTORY/pg_wal/SEGMENT", offset 499712: read 288 of 8192`],
    theirs: [WAL],
  },
  {
    name: 'the manifest has the WAL end before it starts',
    mutilate: (directory) =>
      editManifest(directory, (lines) => lines.replace(/"Start-LSN": "[^"]*"/, '"Start-LSN": "F/28"')),
    says: [`${WAL}: could not find a valid record after #`],
    theirs: [WAL],
  },
  {
    name: 'the manifest has the WAL end where it starts',
    mutilate: (directory) =>
      editManifest(directory, (lines) =>
        lines.replace(/("Start-LSN": )("[^"]*")(, "End-LSN": )".*"/, '$1$2$3$2'),
      ),
    says: [`${WAL}: could not find a valid record after #`],
    theirs: [WAL],
  },
  {
    name: 'there is no WAL',
    mutilate: (directory) => rmSync(path.join(directory, 'pg_wal'), { recursive: true }),
    says: [`${WAL}: could not read directory "DIRECTORY/pg_wal": No such file or directory`],
    theirs: [WAL],
  },
  {
    name: 'WAL is not looked at without being asked to',
    options: ['-n'],
    mutilate: (directory) => rmSync(path.join(directory, 'pg_wal'), { recursive: true }),
    says: [],
  },
  {
    name: 'WAL and manifest are elsewhere',
    options: ['-w', 'DIRECTORY/elsewhere/wal', '-m', 'DIRECTORY/elsewhere/manifest', '-i', 'elsewhere'],
    mutilate: (directory) => {
      mkdirSync(path.join(directory, 'elsewhere'));
      renameSync(path.join(directory, 'pg_wal'), path.join(directory, 'elsewhere/wal'));
      renameSync(path.join(directory, 'backup_manifest'), path.join(directory, 'elsewhere/manifest'));
    },
    says: [],
  },
];
