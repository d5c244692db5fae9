import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ConvoyError } from '../../src/errors.js';
import {
  isUnixSocket,
  resolveConnection,
  type ConnectionRequest,
  type ConnectionSettings,
} from '../../src/wire/conninfo.js';

/* Messages and defaults are libpq 18's, tried with PQconnectStartParams and the arguments of pg_basebackup. */

const NOBODY: ConnectionRequest = {
  environment: {},
  homeDirectory: '/nonexistent',
  osUser: 'me',
  fileExists: () => false,
};

function resolve(request: Partial<ConnectionRequest>): ConnectionSettings {
  return resolveConnection({ ...NOBODY, ...request });
}

function refusal(request: Partial<ConnectionRequest>): ConvoyError {
  try {
    resolve(request);
  } catch (thrown) {
    assert.ok(thrown instanceof ConvoyError, String(thrown));
    assert.equal(thrown.code, 'connection_settings');
    return thrown;
  }
  return assert.fail('was accepted');
}

test('without anything, the defaults of libpq', () => {
  assert.deepEqual(resolve({}), {
    host: '/tmp',
    port: 5432,
    user: 'me',
    passfile: '/nonexistent/.pgpass',
    channelBinding: 'prefer',
    keepalives: true,
    keepalivesIdleMs: 0,
    sslmode: 'prefer',
    sslnegotiation: 'postgres',
    sslcertmode: 'allow',
    sslMinProtocolVersion: 'TLSv1.2',
    homeDirectory: '/nonexistent',
  });
});

test('every setting arrives, and survives a structured clone', () => {
  const dbname =
    'host=db hostaddr=::1 port=7 user=u dbname=d password=p passfile=/pw application_name=a ' +
    "options='-c x=1' channel_binding=require connect_timeout=10 keepalives=0 keepalives_idle=60 " +
    'sslmode=verify-ca sslnegotiation=direct sslrootcert=/root sslcrl=/crl sslcert=/cert sslkey=/key ' +
    'sslpassword=sp sslcertmode=disable ssl_min_protocol_version=tlsv1.1 ssl_max_protocol_version=TLSv1.3';
  const settings = resolve({ dbname });
  assert.deepEqual(structuredClone(settings), {
    host: 'db',
    hostaddr: '::1',
    port: 7,
    user: 'u',
    database: 'd',
    password: 'p',
    passfile: '/pw',
    applicationName: 'a',
    options: '-c x=1',
    channelBinding: 'require',
    connectTimeoutMs: 10_000,
    keepalives: false,
    keepalivesIdleMs: 60_000,
    sslmode: 'verify-ca',
    sslnegotiation: 'direct',
    sslrootcert: '/root',
    sslcrl: '/crl',
    sslcert: '/cert',
    sslkey: '/key',
    sslpassword: 'sp',
    sslcertmode: 'disable',
    sslMinProtocolVersion: 'TLSv1.1',
    sslMaxProtocolVersion: 'TLSv1.3',
    homeDirectory: '/nonexistent',
  });
});

test('options win over the connection string, that over the environment', () => {
  const dbname = 'host=string port=2 user=string';
  const environment = { PGHOST: 'env', PGPORT: '3', PGUSER: 'env', PGDATABASE: 'env' };
  const { host, port, user, database } = resolve({ host: 'option', dbname, environment });
  assert.deepEqual(
    { host, port, user, database },
    { host: 'option', port: 2, user: 'string', database: 'env' },
  );
  assert.equal(resolve({ port: 1, dbname, environment }).port, 1);
  assert.equal(resolve({ user: 'option', dbname: 'postgres://uri@h', environment }).user, 'option');
  assert.equal(resolve({ environment }).host, 'env');
});

test('an empty value means the default', () => {
  const environment = { PGHOST: 'env', PGPORT: '', PGUSER: '', PGSSLMODE: '', PGPASSWORD: '', PGSERVICE: '' };
  const settings = resolve({ host: '', user: '', dbname: "host='' sslmode='' service=''", environment });
  const { host, port, user, sslmode, password } = settings;
  assert.deepEqual([host, port, user, sslmode, password], ['env', 5432, 'me', 'prefer', undefined]);
});

const ENVIRONMENT: readonly (readonly [string, string, keyof ConnectionSettings, unknown])[] = [
  ['PGHOST', 'h', 'host', 'h'],
  ['PGHOSTADDR', '127.0.0.1', 'host', '127.0.0.1'],
  ['PGPORT', '7', 'port', 7],
  ['PGUSER', 'u', 'user', 'u'],
  ['PGDATABASE', 'd', 'database', 'd'],
  ['PGPASSWORD', 'p', 'password', 'p'],
  ['PGPASSFILE', '/f', 'passfile', '/f'],
  ['PGOPTIONS', '-c a=b', 'options', '-c a=b'],
  ['PGAPPNAME', 'a', 'applicationName', 'a'],
  ['PGCHANNELBINDING', 'disable', 'channelBinding', 'disable'],
  ['PGCONNECT_TIMEOUT', '3', 'connectTimeoutMs', 3000],
  ['PGSSLMODE', 'allow', 'sslmode', 'allow'],
  ['PGREQUIRESSL', '1', 'sslmode', 'require'],
  ['PGREQUIRESSL', '0', 'sslmode', 'prefer'],
  ['PGSSLROOTCERT', '/r', 'sslrootcert', '/r'],
  ['PGSSLCRL', '/c', 'sslcrl', '/c'],
  ['PGSSLCERT', '/c', 'sslcert', '/c'],
  ['PGSSLKEY', '/k', 'sslkey', '/k'],
  ['PGSSLCERTMODE', 'disable', 'sslcertmode', 'disable'],
  ['PGSSLMINPROTOCOLVERSION', 'TLSv1.3', 'sslMinProtocolVersion', 'TLSv1.3'],
  ['PGSSLMAXPROTOCOLVERSION', 'TLSv1.3', 'sslMaxProtocolVersion', 'TLSv1.3'],
];

for (const [name, value, setting, expected] of ENVIRONMENT) {
  test(`${name}=${value} sets ${setting}`, () => {
    assert.equal(resolve({ environment: { [name]: value } })[setting], expected);
  });
}

test('the environment comes from the caller, never from the process', () => {
  process.env['PGHOST'] = 'process';
  try {
    assert.equal(resolve({}).host, '/tmp');
  } finally {
    delete process.env['PGHOST'];
  }
});

test('PGSSLMODE wins over PGREQUIRESSL', () => {
  const environment = { PGSSLMODE: 'disable', PGREQUIRESSL: '1' };
  assert.equal(resolve({ environment }).sslmode, 'disable');
});

test('without a host, the first default socket directory that has a socket of the port', () => {
  const sockets = new Set(['/var/run/postgresql/.s.PGSQL.5433', '/tmp/.s.PGSQL.5434', '/tmp/.s.PGSQL.5433']);
  const fileExists = (path: string): boolean => sockets.has(path);
  const hosts = [5433, 5434, 5435].map((port) => resolve({ port, fileExists }).host);
  assert.deepEqual(hosts, ['/var/run/postgresql', '/tmp', '/tmp']);
});

test('only a directory without an address is a Unix-domain socket', () => {
  assert.equal(isUnixSocket(resolve({})), true);
  assert.equal(isUnixSocket(resolve({ dbname: 'postgres://%2Fsocket%2Fdir' })), true);
  assert.equal(isUnixSocket(resolve({ dbname: 'host=/dir hostaddr=127.0.0.1' })), false);
  assert.equal(isUnixSocket(resolve({ host: 'localhost' })), false);
});

test('sslrootcert=system means verify-full, unless sslmode is given', () => {
  assert.equal(resolve({ environment: { PGSSLROOTCERT: 'system' } }).sslmode, 'verify-full');
  assert.equal(
    refusal({ dbname: 'sslrootcert=system', environment: { PGREQUIRESSL: '1' } }).message,
    'weak sslmode "require" may not be used with sslrootcert=system (use "verify-full")',
  );
});

test('a time limit that is not set differs from none', () => {
  assert.equal('connectTimeoutMs' in resolve({}), false);
  assert.equal(resolve({ dbname: 'connect_timeout=0' }).connectTimeoutMs, 0);
  assert.equal(resolve({ dbname: 'connect_timeout=-1' }).connectTimeoutMs, 0);
});

test('fallback_application_name counts where there is no application_name', () => {
  assert.equal(resolve({ dbname: 'fallback_application_name=f' }).applicationName, 'f');
  const environment = { PGAPPNAME: 'a' };
  assert.equal(resolve({ dbname: 'fallback_application_name=f', environment }).applicationName, 'a');
});

const INVALID: readonly (readonly [string, string])[] = [
  ['port=x', 'invalid integer value "x" for connection option "port"'],
  ['port=5432x', 'invalid integer value "5432x" for connection option "port"'],
  ['port=99999999999', 'invalid integer value "99999999999" for connection option "port"'],
  ['port=0', 'invalid port number: "0"'],
  ['port=65536', 'invalid port number: "65536"'],
  ['port=1,2', 'could not match 2 port numbers to 1 hosts'],
  ['host=a,b port=1,2,3', 'could not match 3 port numbers to 2 hosts'],
  ['host=a,b port=1,x', 'invalid integer value "x" for connection option "port"'],
  ['host=a,b port=1,65536', 'invalid port number: "65536"'],
  ['host=a hostaddr=::1,::2', 'could not match 1 host names to 2 hostaddr values'],
  ['host=a,b hostaddr=::1', 'could not match 2 host names to 1 hostaddr values'],
  ['hostaddr=::1,localhost', 'could not parse network address "localhost"'],
  ['target_session_attrs=master', 'invalid target_session_attrs value: "master"'],
  ['load_balance_hosts=yes', 'invalid load_balance_hosts value: "yes"'],
  ['hostaddr=localhost', 'could not parse network address "localhost"'],
  ['host=@abstract', 'sockets in the abstract namespace are not supported yet: "@abstract"'],
  ['hostaddr=::1 sslmode=verify-full', 'host name must be specified for a verified SSL connection'],
  ['sslmode=verify', 'invalid sslmode value: "verify"'],
  ['sslnegotiation=x', 'invalid sslnegotiation value: "x"'],
  [
    'sslnegotiation=direct',
    'weak sslmode "prefer" may not be used with sslnegotiation=direct ' +
      '(use "require", "verify-ca", or "verify-full")',
  ],
  ['channel_binding=x', 'invalid channel_binding value: "x"'],
  ['sslcertmode=x', 'invalid sslcertmode value: "x"'],
  ['connect_timeout=1s', 'invalid integer value "1s" for connection option "connect_timeout"'],
  ['keepalives=on', 'invalid integer value "on" for connection option "keepalives"'],
  ['keepalives_count=x', 'invalid integer value "x" for connection option "keepalives_count"'],
  ['ssl_min_protocol_version=3', 'invalid "ssl_min_protocol_version" value: "3"'],
  ['ssl_max_protocol_version=TLSv1.1', 'invalid SSL protocol version range'],
  ['service=x', 'definition of service "x" not found'],
];

for (const [dbname, message] of INVALID) {
  test(`"${dbname}" is refused in libpq's words`, () => {
    assert.equal(refusal({ dbname, environment: { PGSYSCONFDIR: '/nonexistent' } }).message, message);
  });
}

test('white space and a sign around a number are accepted', () => {
  assert.equal(resolve({ dbname: "port=' +5433 '" }).port, 5433);
});

const UNSUPPORTED = [
  'sslcrldir=/d',
  'sslsni=0',
  'requirepeer=postgres',
  'require_auth=scram-sha-256',
  'min_protocol_version=3.2',
  'gssencmode=require',
  'scram_client_key=k',
  'scram_server_key=k',
  'oauth_issuer=i',
  'oauth_client_id=i',
  'oauth_client_secret=s',
  'oauth_scope=s',
  'sslkeylogfile=/f',
  'sslcertmode=require',
];

for (const dbname of UNSUPPORTED) {
  test(`"${dbname}" is refused by name`, () => {
    const [keyword] = dbname.split('=');
    const { message, hint } = refusal({ dbname });
    assert.ok(message.startsWith(`connection option "${keyword}" is not supported yet`), message);
    assert.equal(hint, 'it is set by the connection string');
  });
}

test('what is not supported is refused from the environment too, naming the variable', () => {
  const { message, hint } = refusal({ environment: { PGREQUIREAUTH: 'none' } });
  assert.equal(message, 'connection option "require_auth" is not supported yet');
  assert.equal(hint, 'it is set by environment variable PGREQUIREAUTH');
});

test('what only asks for the default, or changes nothing here, is accepted', () => {
  resolve({
    dbname:
      'client_encoding=LATIN1 keepalives_interval=5 keepalives_count=3 tcp_user_timeout=9 sslcompression=1 ' +
      'sslsni=1 min_protocol_version=3.0 max_protocol_version=latest gssencmode=prefer krbsrvname=x gsslib=x ' +
      'gssdelegation=0 replication=true target_session_attrs=any load_balance_hosts=disable',
  });
});

const LISTS: readonly (readonly [string, readonly unknown[]])[] = [
  [
    'host=a,b',
    [
      { host: 'a', port: 5432 },
      { host: 'b', port: 5432 },
    ],
  ],
  [
    'host=a,b port=7',
    [
      { host: 'a', port: 7 },
      { host: 'b', port: 7 },
    ],
  ],
  [
    'host=a,,c port=1,2,',
    [
      { host: 'a', port: 1 },
      { host: '/tmp', port: 2 },
      { host: 'c', port: 5432 },
    ],
  ],
  [
    'host=a,b,/run hostaddr=::1,,',
    [
      { host: 'a', hostaddr: '::1', port: 5432 },
      { host: 'b', port: 5432 },
      { host: '/run', port: 5432 },
    ],
  ],
  [
    'hostaddr=::1,10.0.0.1 port=1,2',
    [
      { host: '::1', port: 1 },
      { host: '10.0.0.1', port: 2 },
    ],
  ],
  [
    'postgresql://[::1]:5433,b:5434/db',
    [
      { host: '::1', port: 5433 },
      { host: 'b', port: 5434 },
    ],
  ],
];

for (const [dbname, expected] of LISTS) {
  test(`"${dbname}" names ${expected.length} servers`, () => {
    const { host, hostaddr, port, otherHosts = [] } = resolve({ dbname });
    const first = hostaddr === undefined ? { host, port } : { host, hostaddr, port };
    assert.deepEqual([first, ...otherHosts], expected);
  });
}

test('which server is wanted comes from the string and from the environment', () => {
  assert.equal(
    resolve({ dbname: 'target_session_attrs=prefer-standby' }).targetSessionAttrs,
    'prefer-standby',
  );
  const environment = { PGTARGETSESSIONATTRS: 'standby', PGLOADBALANCEHOSTS: 'random', PGHOST: 'a,b' };
  const settings = resolve({ environment });
  assert.equal(settings.targetSessionAttrs, 'standby');
  assert.equal(settings.loadBalanceHosts, true);
  assert.deepEqual(settings.otherHosts, [{ host: 'b', port: 5432 }]);
});
