import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { parseConnectionString } from '../../src/wire/conninfo-string.js';
import type { ConnectionRequest } from '../../src/wire/conninfo.js';
import { primaryConninfo, type StandbyOf } from '../../src/wire/primary-conninfo.js';

function written(request: Partial<ConnectionRequest>, more: Partial<StandbyOf> = {}): string {
  const whole = {
    environment: {},
    homeDirectory: '/home/me',
    osUser: 'me',
    fileExists: () => false,
    ...request,
  };
  return primaryConninfo(whole, { serverMajor: 18, askedPassword: undefined, ...more });
}

const PASSFILE = `passfile='/home/me/.pgpass'`;

describe('a connection string for a standby', () => {
  // in the order and the quoting of GenerateRecoveryConfig
  for (const [what, request, expected] of [
    [
      'of options',
      { host: 'db1', port: '5433', user: 'rep' },
      `user=rep ${PASSFILE} channel_binding=prefer host=db1 port=5433 sslmode=prefer`,
    ],
    [
      'of nothing but defaults',
      {},
      `user=me ${PASSFILE} channel_binding=prefer host='/tmp' port=5432 sslmode=prefer`,
    ],
    [
      'of a connection string',
      { dbname: `host=db1 user='my user' password='it\\'s \\\\' application_name=x sslmode=require` },
      `user='my user' password='it\\'s \\\\' channel_binding=prefer host=db1 port=5432 ` +
        'application_name=x sslmode=require',
    ],
    [
      'of the environment',
      {
        environment: {
          PGHOST: 'db2',
          PGPASSWORD: 'secret',
          PGUSER: 'u',
          PGPASSFILE: '/p',
          PGOPTIONS: '-c a=b',
        },
      },
      `user=u password=secret passfile='/p' channel_binding=prefer host=db2 port=5432 options='-c a=b' sslmode=prefer`,
    ],
    [
      'with an address',
      { dbname: 'hostaddr=127.0.0.1 sslmode=disable' },
      `user=me ${PASSFILE} channel_binding=prefer hostaddr=127.0.0.1 port=5432 sslmode=disable`,
    ],
  ] as const) {
    test(what, () => {
      assert.equal(written(request), expected);
    });
  }

  test('quotes what is not a plain word, so that it is read back as it was', () => {
    const password = String.raw`a b'c\d"=ü`;
    const text = written({ host: 'db', environment: { PGPASSWORD: password } });
    assert.equal(parseConnectionString(text).get('password'), password);
  });

  test('has the password that was asked for', () => {
    assert.match(written({ host: 'db' }, { askedPassword: 'typed' }), /^user=me password=typed passfile=/);
  });

  // what pg_basebackup 18 -R wrote, without ssl_min_protocol_version, a default there that was not given
  test('has all that was given, as pg_basebackup writes it', () => {
    const given =
      'host=127.0.0.1 port=5718 user=postgres dbname=postgres application_name=my sslmode=prefer sslcertmode=disable ' +
      'target_session_attrs=any sslrootcert=/x/y gssencmode=disable options=-cwork_mem=64MB connect_timeout=10 ' +
      'keepalives=1 keepalives_idle=5 keepalives_interval=3 keepalives_count=2 load_balance_hosts=random ' +
      'passfile=/tmp/pp fallback_application_name=x client_encoding=UTF8 tcp_user_timeout=100 krbsrvname=kk ' +
      'sslcompression=0 sslsni=1 sslnegotiation=postgres gssdelegation=0 ssl_max_protocol_version=TLSv1.3 sslcert=/c ' +
      'sslkey=/k sslpassword=pw sslcrl=/q max_protocol_version=3.0 min_protocol_version=3.0';
    assert.equal(
      written({ dbname: given }),
      `user=postgres passfile='/tmp/pp' channel_binding=prefer connect_timeout=10 host=127.0.0.1 port=5718 ` +
        `client_encoding=UTF8 options='-cwork_mem=64MB' application_name=my keepalives=1 keepalives_idle=5 ` +
        'keepalives_interval=3 keepalives_count=2 tcp_user_timeout=100 sslmode=prefer sslnegotiation=postgres ' +
        `sslcompression=0 sslcert='/c' sslkey='/k' sslcertmode=disable sslpassword=pw sslrootcert='/x/y' sslcrl='/q' ` +
        'sslsni=1 min_protocol_version=3.0 max_protocol_version=3.0 ssl_max_protocol_version=TLSv1.3 ' +
        'gssencmode=disable krbsrvname=kk gssdelegation=0 target_session_attrs=any load_balance_hosts=random dbname=postgres',
    );
  });

  test('has no option that the libpq of the standby does not know', () => {
    const request = {
      dbname: 'host=db sslsni=1 sslnegotiation=postgres load_balance_hosts=disable gssencmode=disable',
    };
    const newer = /sslsni|sslnegotiation|load_balance_hosts/g;
    assert.deepEqual(written(request, { serverMajor: 13 }).match(newer), null);
    assert.match(written(request, { serverMajor: 13 }), / gssencmode=disable$/);
    assert.deepEqual(written(request, { serverMajor: 15 }).match(newer), ['sslsni']);
    assert.deepEqual(written(request, { serverMajor: 17 }).match(newer)?.length, 3);
  });

  test('has all hosts, and what is asked of them in words that the standby knows', () => {
    const request = { dbname: 'host=a,b port=1,2 target_session_attrs=prefer-standby' };
    const hosts = " host='a,b' port='1,2' sslmode=prefer";
    assert.ok(written(request).endsWith(`${hosts} target_session_attrs='prefer-standby'`), written(request));
    assert.ok(written(request, { serverMajor: 13 }).endsWith(hosts));
  });

  test('has the database from 17 on, where the connection string names one', () => {
    const request = { dbname: 'host=db dbname=app' };
    assert.match(written(request, { serverMajor: 17 }), / dbname=app$/);
    assert.doesNotMatch(written(request, { serverMajor: 16 }), /dbname/);
    assert.doesNotMatch(written({ host: 'db', environment: { PGDATABASE: 'app' } }), /dbname/);
  });
});
