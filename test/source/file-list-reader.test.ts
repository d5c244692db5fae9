/* Rows are those of PROTOCOL, "The file list"; the hostile ones are what no honest server sends. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { TextRow } from '../../src/replication/result-sets.js';
import { FileListReader, type ReadList } from '../../src/source/file-list-reader.js';
import type { SourceTablespace } from '../../src/source/source.js';

const MAJOR = 15;
const VERSION = 'PG_15_202209061';
const TABLESPACES: readonly SourceTablespace[] = [
  { oid: 16384, location: '/srv/ts1' },
  { oid: 16385, location: '/pgdata/spaces/inside' },
];

function directory(path: string): TextRow {
  return [path, 'd', '-1', '1700000000'];
}

function file(path: string, size = 8192): TextRow {
  return [path, 'f', String(size), '1700000000'];
}

function link(path: string): TextRow {
  return [path, 'l', '8', '1700000000'];
}

/** Reads the rows of each result set: the tablespaces' in their order, then the data directory's. */
function read(tablespaces: readonly SourceTablespace[], ...sets: readonly (readonly TextRow[])[]): ReadList {
  const reader = new FileListReader(tablespaces, MAJOR);
  for (const [index, rows] of sets.entries()) {
    for (const row of rows) reader.add(index, row);
  }
  return reader.finish();
}

const MAIN: readonly TextRow[] = [
  file('./PG_VERSION', 3),
  directory('./base'),
  directory('./base/1'),
  file('./base/1/112'),
  directory('./pg_tblspc'),
  link('./pg_tblspc/16384'),
  link('./pg_tblspc/16385'),
  directory('./pg_wal'),
  directory('./pg_wal/archive_status'),
];
const OUTSIDE: readonly TextRow[] = [
  directory(`/srv/ts1/${VERSION}`),
  directory(`/srv/ts1/${VERSION}/5`),
  file(`/srv/ts1/${VERSION}/5/16400`, 16_384),
];
const INSIDE: readonly TextRow[] = [
  directory(`/pgdata/spaces/inside/${VERSION}`),
  file(`/pgdata/spaces/inside/${VERSION}/5`, 0),
];

describe('a list', () => {
  test('of a data directory and its tablespaces', () => {
    const { files, directories } = read(TABLESPACES, OUTSIDE, INSIDE, MAIN);
    const mtime = 1_700_000_000;
    assert.deepEqual(files, [
      {
        source: `/srv/ts1/${VERSION}/5/16400`,
        target: `pg_tblspc/16384/${VERSION}/5/16400`,
        size: 16_384,
        mtime,
        tablespace: 16384,
      },
      {
        source: `/pgdata/spaces/inside/${VERSION}/5`,
        target: `pg_tblspc/16385/${VERSION}/5`,
        size: 0,
        mtime,
        tablespace: 16385,
      },
      { source: './PG_VERSION', target: 'PG_VERSION', size: 3, mtime, tablespace: undefined },
      { source: './base/1/112', target: 'base/1/112', size: 8192, mtime, tablespace: undefined },
    ]);
    assert.deepEqual(
      directories.map(({ source, target }) => [source, target]),
      [
        [`/srv/ts1/${VERSION}`, `pg_tblspc/16384/${VERSION}`],
        [`/srv/ts1/${VERSION}/5`, `pg_tblspc/16384/${VERSION}/5`],
        [`/pgdata/spaces/inside/${VERSION}`, `pg_tblspc/16385/${VERSION}`],
        ['./base', 'base'],
        ['./base/1', 'base/1'],
        ['./pg_tblspc', 'pg_tblspc'],
        ['./pg_wal', 'pg_wal'],
        ['./pg_wal/archive_status', 'pg_wal/archive_status'],
      ],
    );
  });

  test('copies a tablespace inside the data directory once, as the patched server lists it twice', () => {
    const twice = [
      directory('./spaces'),
      directory('./spaces/inside'),
      directory(`./spaces/inside/${VERSION}`),
      file(`./spaces/inside/${VERSION}/5`, 0),
      file('./spaces/inside/not PostgreSQLs', 1),
      file(`./spaces/other/${VERSION}`, 1),
    ];
    const { files, directories } = read(TABLESPACES, OUTSIDE, INSIDE, [...MAIN, ...twice]);
    assert.deepEqual(
      files.slice(4).map(({ target }) => target),
      ['spaces/inside/not PostgreSQLs', `spaces/other/${VERSION}`],
    );
    assert.deepEqual(
      directories.slice(8).map(({ target }) => target),
      ['spaces', 'spaces/inside'],
    );
  });

  test('has the sizes of a server that counts in 32 bits', () => {
    const sizes = [-1_073_741_824, -2_147_483_648, -1, 2_147_483_647];
    const { files } = read(
      [],
      sizes.map((size, index) => file(`./base/1/${index}`, size)),
    );
    assert.deepEqual(
      files.map(({ size }) => size),
      [3 * 2 ** 30, 2 ** 31, 2 ** 32 - 1, 2 ** 31 - 1],
    );
  });

  test('leaves out what a backup never has, should a server list it', () => {
    const never = [
      'global/pg_control',
      'backup_label',
      'tablespace_map',
      'backup_manifest',
      'backup_manifest.tmp',
      'postmaster.pid',
      'pg_wal/000000010000000000000001',
      'pg_replslot/slot/state',
      'base/1/pg_internal.init',
      'base/1/t3_16400',
    ];
    assert.deepEqual(read([], [directory('./base'), ...never.map((name) => file(`./${name}`))]).files, []);
  });

  test('may name a link of a tablespace that came after the start', () => {
    const { files, directories } = read([], [link('./pg_tblspc/16999'), file('./PG_VERSION')]);
    assert.equal(files.length, 1);
    assert.deepEqual(directories, []);
  });

  test('keeps odd names as they are', () => {
    const names = ['with blanks', "it's", 'new\nline', 'back\\slash', 'größe', '..hidden', '-rf', '~'];
    const { files } = read(
      [],
      names.map((name) => file(`./${name}`)),
    );
    assert.deepEqual(
      files.map(({ target }) => target),
      names,
    );
  });
});

/** Rows in the data directory's set that are refused; `base` is listed before them. */
const HOSTILE: readonly (readonly [name: string, row: TextRow])[] = [
  ['a parent', file('./../x')],
  ['a parent further down', file('./base/../../x')],
  ['the data directory itself', directory('./')],
  ['the data directory by its dot', directory('.')],
  ['an absolute path', file('/etc/passwd')],
  ['an absolute path behind the dot', file('.//etc/passwd')],
  ['a path without its dot', file('base/1/112')],
  ['nothing', file('')],
  ['a path with an empty component', file('./base//112')],
  ['a path that ends in a slash', file('./base/')],
  ['a NUL', file('./base/1\0')],
  ['a link elsewhere', link('./base/1')],
  ['a link below pg_tblspc that is no number', link('./pg_tblspc/x')],
  ['a link below a link', link('./pg_tblspc/16384/1')],
  ['a file in place of a link', file('./pg_tblspc/16384')],
  ['a directory in place of a link', directory('./pg_tblspc/16384')],
  ['a file below a link', file(`./pg_tblspc/16384/${VERSION}/5/1`)],
  ['a file below a link, its number written otherwise', file('./pg_tblspc/016384/x')],
  ['a directory below a link', directory('./pg_tblspc/16384/x')],
  ['a file of a tablespace', file(`/srv/ts1/${VERSION}/5/16400`)],
];

/** Rows in the set of the tablespace at /srv/ts1. */
const HOSTILE_IN_TABLESPACE: readonly (readonly [name: string, row: TextRow])[] = [
  ['a file outside', file('/etc/passwd')],
  ['a place with the same beginning', file(`/srv/ts10/${VERSION}/5/1`)],
  ['the location itself', directory('/srv/ts1')],
  ['a parent', file('/srv/ts1/../x')],
  ['a parent below the version directory', file(`/srv/ts1/${VERSION}/../../x`)],
  ['a file beside the version directory', file('/srv/ts1/notes')],
  ['the directory of another version', directory('/srv/ts1/PG_14_202107181')],
  ['a file of another version', file('/srv/ts1/PG_1_5/5/1')],
  ['a directory that looks like a version', directory('/srv/ts1/PG_15_202209061x')],
  ['a link', link(`/srv/ts1/${VERSION}/5`)],
  ['a path of the data directory', file('./base/1/112')],
];

describe('refused', () => {
  const refused = { code: 'untrusted_peer', message: /the server listed an invalid path/ };
  for (const [name, row] of HOSTILE) {
    test(`${name} in the data directory`, () => {
      assert.throws(() => read(TABLESPACES, OUTSIDE, INSIDE, [directory('./base'), row]), refused);
    });
  }

  for (const [name, row] of HOSTILE_IN_TABLESPACE) {
    test(`${name} in a tablespace`, () => {
      assert.throws(() => read(TABLESPACES, [directory(`/srv/ts1/${VERSION}`), row]), refused);
    });
  }

  const listedTwice = { code: 'untrusted_peer', message: /is listed twice/ };
  test('a file twice', () => assert.throws(() => read([], [file('./x'), file('./x')]), listedTwice));
  test('a name as a file and as a directory', () => {
    assert.throws(() => read([], [directory('./x'), file('./x')]), listedTwice);
  });
  test('a file of a tablespace twice', () => {
    assert.throws(() => read(TABLESPACES, [...OUTSIDE, ...OUTSIDE]), listedTwice);
  });

  test('a size that is none', () => {
    assert.throws(() => read([], [file('./x', -(2 ** 32) - 1)]), {
      code: 'untrusted_peer',
      message: /invalid size/,
    });
  });

  test('a name that was not UTF-8: its file would count as vanished', () => {
    assert.throws(() => read([], [file('./base/a\u{fffd}')]), {
      code: 'file_damaged',
      message: /not valid UTF-8/,
    });
  });

  test('a list of other tablespaces than the backup has', () => {
    const changed = { code: 'server_error', message: /tablespace was created or dropped/, hint: 'try again' };
    assert.throws(() => read(TABLESPACES, OUTSIDE, INSIDE), changed);
    assert.throws(() => read(TABLESPACES, OUTSIDE, INSIDE, MAIN, [file('./x')]), changed);
    assert.throws(() => read([], []), changed);
  });

  test('a hostile path is not shown whole', () => {
    assert.throws(
      () => read([], [file(`/${'x'.repeat(1000)}`)]),
      (error) => {
        assert.ok(error instanceof Error && error.message.length < 300);
        return true;
      },
    );
  });
});
