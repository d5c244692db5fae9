import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { ConvoyError } from '../../src/errors.js';
import { resolveConnection, type ConnectionSettings } from '../../src/wire/conninfo.js';
import { findService } from '../../src/wire/service-file.js';

/* Behaviour as seen with libpq 18. */

const SERVICES = `
# a comment
[other]
host=other
  [db1]
  host=one
port=1111
port=2222
password=a=b
application_name= spaced name \t
# another

[db1]
host=second section
[empty]
host=
[latin]
user =x
[nothing]
[noequals]
host
[unknown]
hots=x
[requiressl]
requiressl=1
[nested]
service=db1
[ldap]
ldap://directory/dc=x?y?base?(cn=z)
`;

let home: string;
let system: string;

before(() => {
  home = mkdtempSync(join(tmpdir(), 'pgconvoy-service-'));
  system = join(home, 'etc');
  mkdirSync(system);
  writeFileSync(join(home, '.pg_service.conf'), SERVICES);
  writeFileSync(join(system, 'pg_service.conf'), '[site]\nhost=site\n[db1]\nhost=not this one\n');
  writeFileSync(join(home, 'own.conf'), '[own]\nhost=own');
  writeFileSync(join(home, 'long.conf'), `[x]\nhost=${'a'.repeat(1016)}\nuser=${'b'.repeat(1017)}\n`);
});

after(() => {
  rmSync(home, { recursive: true });
});

function find(service: string, environment: Record<string, string> = {}): Record<string, string> {
  const places = { environment: { PGSYSCONFDIR: system, ...environment }, homeDirectory: home };
  return Object.fromEntries(findService(service, places));
}

function refusal(service: string, environment: Record<string, string> = {}): string {
  try {
    find(service, environment);
  } catch (thrown) {
    assert.ok(thrown instanceof ConvoyError && thrown.code === 'connection_settings', String(thrown));
    return thrown.message;
  }
  return assert.fail('was accepted');
}

test('a section is read to the next one, the first value of an option counts', () => {
  const expected = { host: 'one', port: '1111', password: 'a=b', application_name: ' spaced name' };
  assert.deepEqual(find('db1'), expected);
  assert.deepEqual(find('nothing'), {});
  assert.deepEqual(find('empty'), { host: '' });
});

test('the system file is asked for what the own one does not have', () => {
  assert.deepEqual(find('site'), { host: 'site' });
});

test('PGSERVICEFILE stands in for ~/.pg_service.conf and has to exist', () => {
  const file = join(home, 'own.conf');
  assert.deepEqual(find('own', { PGSERVICEFILE: file }), { host: 'own' });
  assert.deepEqual(find('db1', { PGSERVICEFILE: file }), { host: 'not this one' });
  assert.equal(refusal('own', { PGSERVICEFILE: `${file}x` }), `service file "${file}x" not found`);
});

test('an unknown service is refused', () => {
  assert.equal(refusal('nosuch'), 'definition of service "nosuch" not found');
});

const BROKEN: readonly (readonly [string, string, string])[] = [
  ['latin', 'user =x', 'syntax error in'],
  ['noequals', 'host', 'syntax error in'],
  ['unknown', 'hots=x', 'syntax error in'],
  ['requiressl', 'requiressl=1', 'syntax error in'],
  ['nested', 'service=db1', 'nested service specifications not supported in'],
  ['ldap', 'ldap://directory/dc=x?y?base?(cn=z)', 'LDAP lookup is not supported in'],
];

for (const [service, line, message] of BROKEN) {
  test(`"${line}" in section [${service}] is refused with the number of the line`, () => {
    const lineNumber = SERVICES.split('\n').indexOf(line) + 1;
    const file = join(home, '.pg_service.conf');
    assert.equal(refusal(service), `${message} service file "${file}", line ${lineNumber}`);
  });
}

test("a line that does not fit libpq's buffer is refused", () => {
  const file = join(home, 'long.conf');
  assert.equal(refusal('x', { PGSERVICEFILE: file }), `line 3 too long in service file "${file}"`);
});

function resolve(dbname: string, environment: Record<string, string>): ConnectionSettings {
  return resolveConnection({
    dbname,
    environment: { PGSYSCONFDIR: system, ...environment },
    homeDirectory: home,
    osUser: 'me',
    fileExists: () => false,
  });
}

test('a service wins over the environment and loses to the connection string', () => {
  const environment = { PGHOST: 'env', PGUSER: 'env' };
  const { host, user, port, password } = resolve('service=db1 port=7', environment);
  assert.deepEqual([host, user, port, password], ['one', 'env', 7, 'a=b']);
  assert.equal(resolve('postgres://?service=db1', environment).host, 'one');
  assert.equal(resolve('', { ...environment, PGSERVICE: 'db1' }).host, 'one');
  // present though empty, it keeps the environment out
  assert.equal(resolve('service=empty', environment).host, '/tmp');
});
