import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import tls from 'node:tls';
import { ConvoyError } from '../../src/errors.js';
import { resolveConnection } from '../../src/wire/conninfo.js';
import { tlsAttempts, type TlsAttempt } from '../../src/wire/tls-mode.js';

/*
 * Certificates are made by openssl; whether the options of an attempt accept a server is tried on a TLS server
 * with one of them. The messages are those of src/interfaces/libpq/fe-secure-openssl.c.
 */

let hasOpenssl = true;
try {
  execFileSync('openssl', ['version'], { stdio: 'ignore' });
} catch {
  hasOpenssl = false;
}

let directory: string;

function file(name: string): string {
  return join(directory, name);
}

function openssl(...words: string[]): void {
  execFileSync('openssl', words, { cwd: directory, stdio: 'pipe' });
}

/** A key and a certificate of that name; signed by the authority `issuer`, or by itself. */
function makeCertificate(name: string, subject: string, issuer?: string, alternatives?: string): void {
  openssl('ecparam', '-name', 'prime256v1', '-genkey', '-noout', '-out', `${name}.key`);
  chmodSync(file(`${name}.key`), 0o600);
  if (issuer === undefined) {
    openssl(
      'req',
      '-x509',
      '-new',
      '-key',
      `${name}.key`,
      '-subj',
      subject,
      '-days',
      '2',
      '-out',
      `${name}.crt`,
    );
    return;
  }
  openssl('req', '-new', '-key', `${name}.key`, '-subj', subject, '-out', `${name}.csr`);
  writeFileSync(
    file('ext.cnf'),
    alternatives === undefined ? 'basicConstraints=CA:FALSE' : `subjectAltName=${alternatives}`,
  );
  const signing = [
    '-config',
    'ca.cnf',
    '-batch',
    '-notext',
    '-cert',
    `${issuer}.crt`,
    '-keyfile',
    `${issuer}.key`,
  ];
  openssl('ca', ...signing, '-extfile', 'ext.cnf', '-in', `${name}.csr`, '-out', `${name}.crt`);
}

function makeCertificates(): void {
  writeFileSync(
    file('ca.cnf'),
    [
      '[ca]\ndefault_ca=x\n[x]\ndatabase=index.txt\nserial=serial\nnew_certs_dir=.\ndefault_md=sha256',
      'default_days=2\ndefault_crl_days=2\npolicy=p\nunique_subject=no\n[p]\ncommonName=supplied\n',
    ].join('\n'),
  );
  writeFileSync(file('index.txt'), '');
  writeFileSync(file('serial'), '01');
  makeCertificate('ca', '/CN=test authority');
  makeCertificate('other-ca', '/CN=other authority');
  makeCertificate('named', '/CN=ignored.example', 'ca', 'DNS:db.example,DNS:*.pool.example');
  makeCertificate('addressed', '/CN=ignored.example', 'ca', 'IP:127.0.0.1');
  makeCertificate('common', '/CN=cn.example', 'ca');
  makeCertificate('common-address', '/CN=127.0.0.1', 'ca');
  makeCertificate('revoked', '/CN=db.example', 'ca');
  makeCertificate('client', '/CN=me', 'ca');
  const authority = ['-config', 'ca.cnf', '-cert', 'ca.crt', '-keyfile', 'ca.key'];
  openssl('ca', ...authority, '-revoke', 'revoked.crt');
  openssl('ca', ...authority, '-gencrl', '-out', 'ca.crl');
  openssl('pkcs8', '-topk8', '-in', 'client.key', '-passout', 'pass:sesame', '-out', 'encrypted.key');
  openssl('pkcs8', '-topk8', '-in', 'client.key', '-nocrypt', '-outform', 'DER', '-out', 'der.key');
  openssl('ec', '-in', 'client.key', '-outform', 'DER', '-out', 'sec1.key');
  writeFileSync(file('garbage'), 'not a certificate');
  for (const name of ['encrypted.key', 'der.key', 'sec1.key', 'garbage']) chmodSync(file(name), 0o600);
}

/** The attempts of `conninfo`, in which `@/` stands for the directory of the certificates. */
function attempts(conninfo: string, homeDirectory = '/nonexistent'): readonly TlsAttempt[] {
  const dbname = conninfo.replaceAll('@/', `${directory}/`);
  return tlsAttempts(
    resolveConnection({ dbname, environment: {}, homeDirectory, osUser: 'me', fileExists: () => false }),
  );
}

function kinds(conninfo: string, homeDirectory?: string): string[] {
  return attempts(conninfo, homeDirectory).map(({ kind }) => kind);
}

function tlsOptions(conninfo: string, homeDirectory?: string): tls.ConnectionOptions {
  const attempt = attempts(conninfo, homeDirectory).find(({ kind }) => kind === 'tls');
  assert.ok(attempt?.kind === 'tls');
  return attempt.ssl;
}

function refusal(conninfo: string, homeDirectory?: string): ConvoyError {
  try {
    attempts(conninfo, homeDirectory);
  } catch (thrown) {
    assert.ok(thrown instanceof ConvoyError && thrown.code === 'connection_settings', String(thrown));
    return thrown;
  }
  return assert.fail('was accepted');
}

interface Meeting {
  /** Why the client did not accept the server, if so. */
  readonly error: Error | undefined;
  readonly clientName: string | undefined;
  readonly serverName: string | undefined;
}

/** Has the attempt talk to a server with this certificate. */
async function meet(certificate: string, ssl: tls.ConnectionOptions): Promise<Meeting> {
  const server = tls.createServer({
    cert: readFileSync(file(`${certificate}.crt`)),
    key: readFileSync(file(`${certificate}.key`)),
    requestCert: true,
    rejectUnauthorized: false,
  });
  server.on('tlsClientError', () => {});
  const seen = new Promise<{ clientName: string | undefined; serverName: string | undefined }>((resolve) => {
    server.once('secureConnection', (socket) => {
      socket.on('error', () => {});
      const name = socket.getPeerCertificate().subject?.CN;
      resolve({
        clientName: name === undefined ? undefined : String(name),
        serverName: typeof socket.servername === 'string' ? socket.servername : undefined,
      });
    });
  });
  await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const socket = tls.connect({ host: '127.0.0.1', port, ...ssl });
  try {
    const error = await new Promise<Error | undefined>((resolve) => {
      socket.once('secureConnect', () => resolve(undefined));
      socket.once('error', resolve);
    });
    return error === undefined
      ? { error, ...(await seen) }
      : { error, clientName: undefined, serverName: undefined };
  } finally {
    socket.destroy();
    server.close();
  }
}

const MODES: readonly (readonly [string, readonly string[]])[] = [
  ['host=h sslmode=disable', ['plain']],
  ['host=h sslmode=allow', ['plain', 'tls']],
  ['host=h sslmode=prefer', ['tls', 'plain']],
  ['host=h', ['tls', 'plain']],
  ['host=h sslmode=require', ['tls']],
  ['host=h sslmode=verify-ca sslrootcert=@/ca.crt', ['tls']],
  ['host=h sslmode=verify-full sslrootcert=@/ca.crt', ['tls']],
  ['host=h sslrootcert=system', ['tls']],
  // never TLS over a Unix-domain socket, whatever is asked for and missing
  ['host=/tmp sslmode=require', ['plain']],
  ['sslmode=verify-full', ['plain']],
  ['host=/tmp hostaddr=127.0.0.1 sslmode=require', ['tls']],
];

/** Conninfo, the server's certificate, and the reason for refusing it, undefined where it is accepted. */
const VERIFICATIONS: readonly (readonly [string, string, RegExp | undefined])[] = [
  ['host=db.example sslmode=require', 'named', undefined],
  ['host=db.example sslmode=prefer sslrootcert=@/other-ca.crt', 'named', undefined],
  ['host=db.example sslmode=allow sslrootcert=@/other-ca.crt', 'named', undefined],
  ['host=elsewhere sslmode=require sslrootcert=@/ca.crt', 'named', undefined],
  ['host=db.example sslmode=require sslrootcert=@/other-ca.crt', 'named', /unable to|self.signed/],
  ['host=db.example sslmode=require sslrootcert=@/missing.crt', 'named', undefined],
  ['host=elsewhere sslmode=verify-ca sslrootcert=@/ca.crt', 'named', undefined],
  ['host=db.example sslmode=verify-ca sslrootcert=@/other-ca.crt', 'named', /unable to|self.signed/],
  ['host=db.example sslmode=verify-full sslrootcert=@/ca.crt', 'named', undefined],
  ['host=db.example sslmode=verify-full sslrootcert=@/other-ca.crt', 'named', /unable to|self.signed/],
  ['host=db.example sslrootcert=system', 'named', /unable to|self.signed/],
  [
    'host=elsewhere sslmode=verify-full sslrootcert=@/ca.crt',
    'named',
    /^server certificate for "DNS:db\.example, DNS:\*\.pool\.example" does not match host name "elsewhere"$/,
  ],
  ['host=DB.Example sslmode=verify-full sslrootcert=@/ca.crt', 'named', undefined],
  ['host=a.pool.example sslmode=verify-full sslrootcert=@/ca.crt', 'named', undefined],
  ['host=a.b.pool.example sslmode=verify-full sslrootcert=@/ca.crt', 'named', /does not match/],
  // the common name counts only without alternatives of the host's kind
  ['host=ignored.example sslmode=verify-full sslrootcert=@/ca.crt', 'named', /does not match/],
  ['host=ignored.example sslmode=verify-full sslrootcert=@/ca.crt', 'addressed', undefined],
  ['host=cn.example sslmode=verify-full sslrootcert=@/ca.crt', 'common', undefined],
  [
    'host=other.example sslmode=verify-full sslrootcert=@/ca.crt',
    'common',
    /^server certificate for "cn\.example" does not match host name "other\.example"$/,
  ],
  ['host=127.0.0.1 sslmode=verify-full sslrootcert=@/ca.crt', 'addressed', undefined],
  ['host=127.0.0.2 sslmode=verify-full sslrootcert=@/ca.crt', 'addressed', /does not match/],
  ['host=127.0.0.1 sslmode=verify-full sslrootcert=@/ca.crt', 'common-address', undefined],
  ['host=127.0.0.1 sslmode=verify-full sslrootcert=@/ca.crt', 'named', /does not match/],
  // the name is checked, not the address
  ['host=db.example hostaddr=127.0.0.1 sslmode=verify-full sslrootcert=@/ca.crt', 'named', undefined],
  // revocation
  ['host=h sslmode=verify-ca sslrootcert=@/ca.crt', 'revoked', undefined],
  ['host=h sslmode=verify-ca sslrootcert=@/ca.crt sslcrl=@/ca.crl', 'revoked', /revoked/],
  ['host=h sslmode=verify-ca sslrootcert=@/ca.crt sslcrl=@/ca.crl', 'named', undefined],
];

const CLIENT = 'host=h sslmode=require sslcert=@/client.crt';

const UNUSABLE: readonly (readonly [string, string])[] = [
  [
    'host=h sslmode=verify-ca sslrootcert=@/missing.crt',
    'root certificate file "@/missing.crt" does not exist',
  ],
  ['host=h sslmode=verify-full', 'root certificate file "/nonexistent/.postgresql/root.crt" does not exist'],
  [
    'host=h sslmode=verify-ca sslrootcert=@/garbage',
    'could not read root certificate file "@/garbage": no start line',
  ],
  [
    'host=h sslmode=verify-ca sslrootcert=@/ca.crt sslcrl=@/missing.crl',
    'could not read certificate revocation list file "@/missing.crl": No such file or directory',
  ],
  [
    'host=h sslmode=verify-ca sslrootcert=@/ca.crt sslcrl=@/garbage',
    'could not read certificate revocation list file "@/garbage": Failed to parse CRL',
  ],
  ['host=h sslmode=require sslcert=@/garbage', 'could not read certificate file "@/garbage": no start line'],
  [`${CLIENT} sslkey=@/missing.key`, 'certificate present, but not private key file "@/missing.key"'],
  [CLIENT, 'certificate present, but not private key file "/nonexistent/.postgresql/postgresql.key"'],
  [`${CLIENT} sslkey=@/home`, 'private key file "@/home" is not a regular file'],
  [`${CLIENT} sslkey=@/ca.key`, 'certificate does not match private key file "@/ca.key"'],
  [`${CLIENT} sslkey=@/open.key`, 'private key file "@/open.key" has group or world access'],
];

suite('with certificates of openssl', { skip: hasOpenssl ? false : 'openssl is not installed' }, () => {
  before(() => {
    directory = mkdtempSync(join(tmpdir(), 'pgconvoy-tls-'));
    makeCertificates();
    mkdirSync(file('home/.postgresql'), { recursive: true });
    for (const [from, to] of [
      ['ca.crt', 'root.crt'],
      ['ca.crl', 'root.crl'],
      ['client.crt', 'postgresql.crt'],
      ['client.key', 'postgresql.key'],
    ] as const) {
      copyFileSync(file(from), file(`home/.postgresql/${to}`));
    }
    copyFileSync(file('client.key'), file('open.key'));
    chmodSync(file('open.key'), 0o644);
  });

  after(() => {
    rmSync(directory, { recursive: true });
  });

  for (const [conninfo, expected] of MODES) {
    test(`"${conninfo}" tries ${expected.join(', then ')}`, () => {
      assert.deepEqual(kinds(conninfo), expected);
    });
  }

  for (const [conninfo, certificate, expected] of VERIFICATIONS) {
    const verb = expected === undefined ? 'accepts' : 'refuses';
    test(`"${conninfo}" ${verb} the certificate "${certificate}"`, async () => {
      const { error } = await meet(certificate, tlsOptions(conninfo));
      if (expected === undefined) assert.equal(error, undefined);
      else assert.match(error?.message ?? 'accepted', expected);
    });
  }

  for (const [conninfo, message] of UNUSABLE) {
    test(`"${conninfo}" is refused, naming the file`, () => {
      assert.equal(refusal(conninfo).message, message.replaceAll('@/', `${directory}/`));
    });
  }

  test('a missing root certificate comes with what to do about it', () => {
    const expected =
      "either provide the file, use the system's trusted roots with sslrootcert=system, " +
      'or change sslmode to disable server certificate verification';
    assert.equal(refusal('host=h sslmode=verify-ca').hint, expected);
    const homeless = refusal('host=h sslmode=verify-ca', '');
    assert.equal(homeless.message, 'could not get home directory to locate root certificate file');
    assert.equal(homeless.hint, expected);
  });

  test('the files of ~/.postgresql are used where nothing else is said', async () => {
    const home = file('home');
    const require = tlsOptions('host=h sslmode=require', home);
    assert.equal((await meet('named', require)).clientName, 'me');
    assert.match((await meet('other-ca', require)).error?.message ?? 'accepted', /self.signed|unable to/);
    assert.match((await meet('revoked', require)).error?.message ?? 'accepted', /revoked/);
    assert.equal((await meet('other-ca', tlsOptions('host=h', home))).error, undefined);
  });

  test('sslcertmode=disable and a missing certificate file send no certificate', async () => {
    const home = file('home');
    const disabled = tlsOptions('host=h sslcertmode=disable', home);
    assert.equal((await meet('named', disabled)).clientName, undefined);
    const missing = tlsOptions('host=h sslcert=@/missing.crt sslkey=@/client.key', home);
    assert.equal((await meet('named', missing)).clientName, undefined);
  });

  for (const key of ['client.key', 'der.key', 'sec1.key', 'encrypted.key sslpassword=sesame']) {
    test(`the client certificate is sent with sslkey=${key}`, async () => {
      assert.equal((await meet('named', tlsOptions(`${CLIENT} sslkey=@/${key}`))).clientName, 'me');
    });
  }

  test('an encrypted key needs the right sslpassword, which no message shows', () => {
    for (const password of ['', 'sslpassword=wrong-guess']) {
      const { message, hint } = refusal(`${CLIENT} sslkey=@/encrypted.key ${password}`);
      assert.ok(message.startsWith(`could not load private key file "${file('encrypted.key')}": `), message);
      assert.doesNotMatch(`${message} ${hint}`, /guess/);
    }
  });

  test("a key may be readable for its group only if it is root's", () => {
    const conninfo = `${CLIENT} sslkey=@/open.key`;
    chmodSync(file('open.key'), 0o640);
    if (process.getuid?.() === 0) {
      assert.deepEqual(kinds(conninfo), ['tls']);
      chownSync(file('open.key'), 65_534, 65_534);
    }
    assert.match(refusal(conninfo).message, /has group or world access/);
  });

  test('the name of the server is sent, an address never', async () => {
    const named = await meet('named', tlsOptions('host=db.example hostaddr=127.0.0.1'));
    assert.equal(named.serverName, 'db.example');
    const addressed = await meet('named', tlsOptions('host=127.0.0.1'));
    assert.equal(addressed.serverName, undefined);
  });

  test('the TLS versions are limited as asked', () => {
    const { minVersion, maxVersion } = tlsOptions('host=h');
    assert.deepEqual([minVersion, maxVersion], ['TLSv1.2', undefined]);
    const limited = tlsOptions('host=h ssl_min_protocol_version=TLSv1.3 ssl_max_protocol_version=TLSv1.3');
    assert.deepEqual([limited.minVersion, limited.maxVersion], ['TLSv1.3', 'TLSv1.3']);
  });
});
