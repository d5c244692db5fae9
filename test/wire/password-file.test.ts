import assert from 'node:assert/strict';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { lookupPassword, resolveConnection } from '../../src/wire/conninfo.js';

/* Expected passwords are what PQpass() of libpq 18 answers for the same file. */

const LINES = [
  '#db:*:*:*:a comment',
  'short:line',
  'db:5432:replication:me:for replication',
  'db:5432:sales:me:for sales',
  'db:5432:me:me:for the default database',
  String.raw`db:*:*:a\:b:colon \: and backslash \\`,
  String.raw`db:*:*:c\\d:backslash user`,
  'db:*:*:trailing:up to:here',
  'db:*:*:empty:',
  'db:*:*:empty:never reached',
  String.raw`db:*:*:lone:ends\ `.trimEnd(),
  'db:*:*:cr:carriage\r\r',
  '::1:*:*:y:bare',
  String.raw`\::1:*:*:z:half`,
  '::1:2:*:*:*:a longer address',
  String.raw`\:\:1:*:*:x:six`,
  'localhost:*:*:*:local',
  '/other/dir:*:*:*:other socket',
  '*:7777:*:*:any host',
  'db:*:*:last:no newline at the end',
];

let directory: string;
let passfile: string;

before(() => {
  directory = mkdtempSync(join(tmpdir(), 'pgconvoy-passfile-'));
  passfile = join(directory, '.pgpass');
  writeFileSync(passfile, LINES.join('\n'), { mode: 0o600 });
});

after(() => {
  rmSync(directory, { recursive: true });
});

function lookup(dbname: string, replication = true): ReturnType<typeof lookupPassword> {
  const settings = resolveConnection({
    dbname,
    environment: {},
    homeDirectory: directory,
    osUser: 'me',
    fileExists: () => false,
  });
  return lookupPassword(settings, { replication });
}

const FOUND: readonly (readonly [string, string | undefined])[] = [
  ['host=db', 'for replication'],
  ['host=db dbname=sales', 'for replication'],
  ["host=db user='a:b'", 'colon : and backslash \\'],
  [String.raw`host=db user=c\\d`, 'backslash user'],
  ['host=db user=trailing', 'up to'],
  ['host=db user=empty', undefined],
  ['host=db user=lone', 'ends\\'],
  ['host=db user=cr', 'carriage'],
  ['host=db user=last', 'no newline at the end'],
  ['host=db user=nobody', undefined],
  ['host=db port=5433', undefined],
  ['host=DB', undefined],
  ['host=::1 user=x', 'six'],
  ['host=::1 user=y', 'bare'],
  ['host=::1 user=z', 'half'],
  ['host=::1:2 user=q', 'a longer address'],
  ['host=:', undefined],
  ['host=elsewhere port=7777', 'any host'],
  // an address is looked up by its name where it has one
  ['host=db hostaddr=127.0.0.1', 'for replication'],
  ['hostaddr=::1 user=x', 'six'],
  // the default socket directories are "localhost"
  ['', 'local'],
  ['host=/tmp', 'local'],
  ['host=/other/dir', 'other socket'],
  ['host=/another/dir', undefined],
  // a password that is given wins
  ['host=db password=given', 'given'],
];

for (const [dbname, password] of FOUND) {
  test(`"${dbname}" finds ${password === undefined ? 'no password' : `"${password}"`}`, () => {
    assert.deepEqual(lookup(dbname), password === undefined ? {} : { password });
  });
}

test('a connection to a database is looked up by its name, else by the name of the user', () => {
  assert.deepEqual(lookup('host=db dbname=sales', false), { password: 'for sales' });
  assert.deepEqual(lookup('host=db', false), { password: 'for the default database' });
});

test('a file that others may read is ignored, with a warning', () => {
  const file = join(directory, 'open');
  writeFileSync(file, '*:*:*:*:secret');
  for (const mode of [0o640, 0o604, 0o610]) {
    chmodSync(file, mode);
    assert.deepEqual(lookup(`passfile=${file}`), {
      warning: `password file "${file}" has group or world access; permissions should be u=rw (0600) or less`,
    });
  }
  chmodSync(file, 0o400);
  assert.deepEqual(lookup(`passfile=${file}`), { password: 'secret' });
});

test('a directory is ignored with a warning, a missing file without', () => {
  assert.deepEqual(lookup(`passfile=${directory}`), {
    warning: `password file "${directory}" is not a plain file`,
  });
  assert.deepEqual(lookup(`passfile=${directory}/missing`), {});
});
