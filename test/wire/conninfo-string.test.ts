import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ConvoyError } from '../../src/errors.js';
import { parseConnectionString } from '../../src/wire/conninfo-string.js';

/*
 * The expected values are what PQconninfoParse of libpq 18 answers, most of them the cases of PostgreSQL's own
 * src/interfaces/libpq/t/001_uri.pl.
 */

type Parsed = Readonly<Record<string, string>>;

const URIS: readonly (readonly [string, Parsed])[] = [
  [
    'postgresql://me:pw@host:12345/db',
    { user: 'me', password: 'pw', host: 'host', port: '12345', dbname: 'db' },
  ],
  ['postgresql://me@host:12345/db', { user: 'me', host: 'host', port: '12345', dbname: 'db' }],
  ['postgresql://me@host/db', { user: 'me', host: 'host', dbname: 'db' }],
  ['postgresql://host:12345/db', { host: 'host', port: '12345', dbname: 'db' }],
  ['postgresql://host/db', { host: 'host', dbname: 'db' }],
  ['postgresql://me@host:12345/', { user: 'me', host: 'host', port: '12345' }],
  ['postgresql://me@', { user: 'me' }],
  ['postgresql://host:12345', { host: 'host', port: '12345' }],
  ['postgresql://host', { host: 'host' }],
  ['postgresql://', {}],
  ['postgres://', {}],
  ['postgres:///', {}],
  ['postgres:///db', { dbname: 'db' }],
  ['postgres:///a/b', { dbname: 'a/b' }],
  ['postgres://me@/db', { user: 'me', dbname: 'db' }],
  ['postgres://:pw@host', { password: 'pw', host: 'host' }],
  ['postgres://@host', { host: 'host' }],
  ['postgres://host:/', { host: 'host' }],
  ['postgres://:12345/', { port: '12345' }],
  ['postgres://me:p%40s%2Fs@host', { user: 'me', password: 'p@s/s', host: 'host' }],
  ['postgres://me:a:b@host', { user: 'me', password: 'a:b', host: 'host' }],
  ['postgresql://%68ost/', { host: 'host' }],
  ['postgresql://h%C3%A9', { host: 'hé' }],
  ['postgres:// host /db', { host: 'host', dbname: 'db' }],
  // query parameters
  ['postgresql://?hostaddr=127.0.0.1', { hostaddr: '127.0.0.1' }],
  ['postgresql://example.com?hostaddr=63.1.2.4', { host: 'example.com', hostaddr: '63.1.2.4' }],
  ['postgresql://host/db?user=me', { host: 'host', dbname: 'db', user: 'me' }],
  ['postgresql://host/db?u%73er=me&port=12345', { host: 'host', dbname: 'db', user: 'me', port: '12345' }],
  ['postgresql://host:12345?user=me', { host: 'host', port: '12345', user: 'me' }],
  ['postgresql://host?', { host: 'host' }],
  ['postgresql://host?user=me&', { host: 'host', user: 'me' }],
  ['postgresql://host?user=', { host: 'host', user: '' }],
  ['postgresql://host?user=a&user=b', { host: 'host', user: 'b' }],
  ['postgresql://host?sslmode=disable', { host: 'host', sslmode: 'disable' }],
  ['postgresql://host?ssl=true', { host: 'host', sslmode: 'require' }],
  ['postgresql://host?requiressl=1', { host: 'host', sslmode: 'require' }],
  ['postgresql://host?requiressl=0', { host: 'host', sslmode: 'prefer' }],
  // IPv6
  ['postgresql://[::1]:12345/db', { host: '::1', port: '12345', dbname: 'db' }],
  ['postgresql://[::1]/db', { host: '::1', dbname: 'db' }],
  ['postgresql://[2001:db8::1234]/', { host: '2001:db8::1234' }],
  ['postgresql://[200z:db8::1234]/', { host: '200z:db8::1234' }],
  ['postgresql://me@[::1]?port=7', { user: 'me', host: '::1', port: '7' }],
  // sockets
  ['postgres://?host=/path/to/dir', { host: '/path/to/dir' }],
  ['postgres://me@?host=/no/such/dir', { user: 'me', host: '/no/such/dir' }],
  ['postgres://me@:12345/db?host=/dir', { user: 'me', port: '12345', dbname: 'db', host: '/dir' }],
  ['postgres://%2Fvar%2Flib%2Fpostgresql/db', { host: '/var/lib/postgresql', dbname: 'db' }],
  // lists are parsed here and refused by resolveConnection
  ['postgres://a:1,b:2/db', { host: 'a,b', port: '1,2', dbname: 'db' }],
  ['postgres://a,[::1]:2', { host: 'a,::1', port: ',2' }],
];

const KEYWORD_VALUES: readonly (readonly [string, Parsed])[] = [
  ['', {}],
  [' \t\n', {}],
  ['host=h port=5', { host: 'h', port: '5' }],
  [' host = h\tport\n=\n5 ', { host: 'h', port: '5' }],
  ["host='h'port=5", { host: 'h', port: '5' }],
  ["user='a b' dbname=''", { user: 'a b', dbname: '' }],
  [String.raw`user='it\'s' password=back\\slash`, { user: "it's", password: 'back\\slash' }],
  [String.raw`user=a\ b password=\'`, { user: 'a b', password: "'" }],
  ["user=it's", { user: "it's" }],
  [String.raw`user=a\n`, { user: 'an' }],
  ['user=a\\', { user: 'a' }],
  ['user=a=b', { user: 'a=b' }],
  ['user= dbname=x', { user: 'dbname=x' }],
  ['user=a user=b', { user: 'b' }],
  ['user=', { user: '' }],
  ['requiressl=1', { sslmode: 'require' }],
  ['requiressl=no', { sslmode: 'prefer' }],
  ['user=50%41', { user: '50%41' }],
];

const REFUSED: readonly (readonly [string, string])[] = [
  ['postgresql://host?uzer=', 'invalid URI query parameter: "uzer"'],
  ['postgresql://host/db?u%7aer=me&port=12345', 'invalid URI query parameter: "uzer"'],
  ['postgresql://host?ssl=false', 'invalid URI query parameter: "ssl"'],
  ['postgre://', 'missing "=" after "postgre://" in connection info string'],
  [
    'postgres://[::1',
    'end of string reached when looking for matching "]" in IPv6 host address in URI: "postgres://[::1"',
  ],
  ['postgres://[]', 'IPv6 host address may not be empty in URI: "postgres://[]"'],
  [
    'postgres://[::1]z',
    'unexpected character "z" at position 17 in URI (expected ":" or "/"): "postgres://[::1]z"',
  ],
  ['postgresql://host?zzz', 'missing key/value separator "=" in URI query parameter: "zzz"'],
  ['postgresql://host?user=a&&port=1', 'missing key/value separator "=" in URI query parameter: ""'],
  ['postgresql://host?value1&value2', 'missing key/value separator "=" in URI query parameter: "value1"'],
  ['postgresql://host?key=key=value', 'extra key/value separator "=" in URI query parameter: "key"'],
  ['postgres://host?dbname=%XXfoo', 'invalid percent-encoded token: "%XXfoo"'],
  ['postgresql://a%00b', 'forbidden value %00 in percent-encoded value: "a%00b"'],
  ['postgresql://%zz', 'invalid percent-encoded token: "%zz"'],
  ['postgresql://%1', 'invalid percent-encoded token: "%1"'],
  ['postgresql://%', 'invalid percent-encoded token: "%"'],
  ['postgresql://a b/', 'unexpected spaces found in "a b", use percent-encoded spaces (%20) instead'],
  ['mydb', 'missing "=" after "mydb" in connection info string'],
  ['host =h port', 'missing "=" after "port" in connection info string'],
  ['host h', 'missing "=" after "host" in connection info string'],
  ['foo=1', 'invalid connection option "foo"'],
  ['=1', 'invalid connection option ""'],
  ['HOST=h', 'invalid connection option "HOST"'],
  ["user='a", 'unterminated quoted string in connection info string'],
  ["user='a\\'", 'unterminated quoted string in connection info string'],
];

/** No libpq here: these either leak the password there, or connect to somewhere else than was meant. */
const SECRETIVE: readonly (readonly [string, string])[] = [
  ['password=my secret', 'missing "=" after "***" in connection info string'],
  ['password=my secret=1', 'invalid connection option "***"'],
  ['password:secret', 'missing "=" after "***" in connection info string'],
  ['sslpassword=my secret', 'missing "=" after "***" in connection info string'],
  ['postgre://me:secret@host/db', 'missing "=" after "***" in connection info string'],
  ['postgre://me:secret@host/db?sslmode=require', 'invalid connection option "***"'],
  ['postgres://me:secret%zz@host', 'invalid percent-encoded token: "***"'],
  [
    'postgres://me:my secret@host',
    'unexpected spaces found in "***", use percent-encoded spaces (%20) instead',
  ],
  ['postgres://host?password=secret%zz', 'invalid percent-encoded token: "***"'],
  ['postgres://host?pasword=secret%zz', 'invalid percent-encoded token: "***"'],
  ['postgres://host?password=my&secret', 'missing key/value separator "=" in URI query parameter: "***"'],
  ['postgres://host?password=my&secret=x', 'invalid URI query parameter: "***"'],
  ['postgres://me:secret@[]', 'IPv6 host address may not be empty in URI: "postgres://***"'],
  ['postgres://[]?password=secret', 'IPv6 host address may not be empty in URI: "postgres://***"'],
  ['postgres://me:my@secret@host/db', 'unexpected "@" in host of URI'],
  ['postgres://me:my/secret@host/db', 'invalid port number in URI'],
  ['postgres://me:secret/db', 'invalid port number in URI'],
  ['postgres://host?password=my@secret', 'unexpected "?" before "@" in URI'],
];

for (const [text, expected] of [...URIS, ...KEYWORD_VALUES]) {
  test(`${JSON.stringify(text)} is parsed as libpq does`, () => {
    assert.deepEqual(Object.fromEntries(parseConnectionString(text)), expected);
  });
}

function refusal(text: string): ConvoyError {
  try {
    parseConnectionString(text);
  } catch (thrown) {
    assert.ok(thrown instanceof ConvoyError, String(thrown));
    return thrown;
  }
  return assert.fail('was accepted');
}

for (const [text, message] of REFUSED) {
  test(`${JSON.stringify(text)} is refused in libpq's words`, () => {
    const { code, message: actual } = refusal(text);
    assert.deepEqual([code, actual], ['connection_settings', message]);
  });
}

for (const [text, message] of SECRETIVE) {
  test(`${JSON.stringify(text)} is refused without the password`, () => {
    const { message: actual, hint } = refusal(text);
    assert.equal(actual, message);
    assert.doesNotMatch(`${actual} ${hint}`, /secret/);
  });
}
