/* What `serve` refuses to start with, TLS, and how it and its processes end. */
import assert from 'node:assert/strict';
import * as fs from 'node:fs/promises';
import path from 'node:path';
import test, { before } from 'node:test';
import { connect as connectTls, type ConnectionOptions } from 'node:tls';
import { once } from 'node:events';
import type { EmbeddedServer } from '../../src/demo/embedded-server.js';
import { isLocal, parseListenAddress } from '../../src/server/listen-address.js';
import type { ServeOptions } from '../../src/server/serve.js';
import { certificateFor, hasOpenssl, NO_OPENSSL } from '../support/certificate.js';
import { temporaryDirectory } from '../support/cleanup.js';
import { PROGRAM, startServe as spawnServe } from '../support/pgconvoy.js';
import { sql, testServer } from '../support/postgres.js';
import { requireTool, run } from '../support/tools.js';
import { errorOf, flow, RawClient, SSL_REQUEST } from './raw-client.js';
import {
  BACKUP_ROLE,
  backupClient,
  createBackupRole,
  fileScope,
  settingsOf,
  startListening,
  testServe,
  until,
} from './test-serve.js';

const scope = fileScope();
let server: EmbeddedServer;
/** Made where there is openssl; tests that need it are skipped elsewhere. */
let certificate: { readonly certificateFile: string; readonly keyFile: string };

before(async () => {
  server = await testServer(scope, { major: 15 });
  await createBackupRole(server);
  const directory = await temporaryDirectory(scope);
  if (!(await hasOpenssl())) return;
  const [certificateFile, keyFile] = await certificateFor(directory, 'localhost', 'IP:127.0.0.1');
  certificate = { certificateFile, keyFile };
});

test('addresses to listen on', () => {
  assert.deepEqual(parseListenAddress('127.0.0.1:5433'), { kind: 'tcp', host: '127.0.0.1', port: 5433 });
  assert.deepEqual(parseListenAddress('[::1]:0'), { kind: 'tcp', host: '::1', port: 0 });
  assert.deepEqual(parseListenAddress('*:1'), { kind: 'tcp', host: '::', port: 1 });
  assert.deepEqual(parseListenAddress('/tmp/.s.PGSQL.1'), { kind: 'unix', path: '/tmp/.s.PGSQL.1' });
  for (const bad of [
    '',
    '5433',
    ':5433',
    'host',
    'host:',
    'host:65536',
    'host:-1',
    '::1:5433',
    '[127.0.0.1]:1',
  ]) {
    assert.throws(() => parseListenAddress(bad), { code: 'usage' }, bad);
  }
});

test('only loopback and Unix-domain sockets count as local', () => {
  for (const local of ['127.0.0.1:1', '127.9.9.9:1', '[::1]:1', 'localhost:1', '/tmp/s']) {
    assert.ok(isLocal(parseListenAddress(local)), local);
  }
  for (const far of [
    '0.0.0.0:1',
    '*:1',
    '[::]:1',
    '10.0.0.1:1',
    'db.example.com:1',
    '128.0.0.1:1',
    '[fe80::1]:1',
  ]) {
    assert.ok(!isLocal(parseListenAddress(far)), far);
  }
});

async function refusal(options: Partial<ServeOptions>): Promise<string> {
  try {
    const running = await startListening(server, options);
    await running.stop();
    return 'started';
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

test('beyond this machine it starts with TLS, or when told that it may be insecure, only', async (t) => {
  if (!(await hasOpenssl())) return t.skip(NO_OPENSSL);
  const listen = { kind: 'tcp', host: '0.0.0.0', port: 0 } as const;
  assert.equal(await refusal({ listen }), 'refusing to listen beyond this machine without TLS');
  assert.equal(await refusal({ listen, tls: certificate }), 'started');
  assert.equal(await refusal({ listen, allowInsecure: true }), 'started');
});

test('a key that others can read, or that does not fit, is refused', async (t) => {
  if (!(await hasOpenssl())) return t.skip(NO_OPENSSL);
  const directory = await temporaryDirectory(t);
  const keyFile = path.join(directory, 'key.pem');
  await fs.copyFile(certificate.keyFile, keyFile);
  await fs.chmod(keyFile, 0o644);
  assert.equal(
    await refusal({ tls: { ...certificate, keyFile } }),
    `private key file "${keyFile}" has group or world access`,
  );
  await fs.writeFile(keyFile, 'no key');
  await fs.chmod(keyFile, 0o600);
  assert.match(await refusal({ tls: { ...certificate, keyFile } }), /^could not load certificate/);
  const missing = path.join(directory, 'missing');
  assert.match(
    await refusal({ tls: { ...certificate, certificateFile: missing } }),
    /No such file or directory$/,
  );
});

test('a data directory that is not the one of the server is refused', async (t) => {
  const directory = await temporaryDirectory(t);
  assert.match(
    await refusal({ dataDirectory: path.join(directory, 'missing') }),
    /^could not access directory/,
  );
  assert.match(await refusal({ dataDirectory: directory }), /pg_control": No such file or directory$/);

  const other = await testServer(t, { major: 15 });
  assert.match(
    await refusal({ dataDirectory: other.dataDirectory }),
    /system identifier \d+ on disk, \d+ on the server$/,
  );
  await other.stop();
  assert.match(await refusal({ connection: settingsOf(other) }), /^connection to server at .* failed: /);

  const copy = path.join(directory, 'copy');
  await fs.cp(server.dataDirectory, copy, { recursive: true, preserveTimestamps: true });
  assert.match(await refusal({ dataDirectory: copy }), /the server sees another "postmaster.pid"$/);
  await fs.rm(path.join(copy, 'postmaster.pid'));
  assert.match(await refusal({ dataDirectory: copy }), /postmaster.pid": No such file or directory$/);
});

test('an address in use is refused; a socket file that was left behind is not in use', async (t) => {
  const first = await testServe(t, server);
  assert.match(await refusal({ listen: first.running.address }), /^could not listen on 127\.0\.0\.1:\d+: /);
  const listen = { kind: 'unix', path: path.join(await temporaryDirectory(t), 'socket') } as const;
  const running = await startListening(server, { listen });
  assert.match(await refusal({ listen }), /^could not listen on \/.*: /);
  await running.stop();
  const leaver = `require('node:net').createServer().listen(process.argv[1], () => process.kill(process.pid, 9))`;
  await run(process.execPath, ['-e', leaver, listen.path]);
  assert.ok((await fs.lstat(listen.path)).isSocket());
  assert.equal(await refusal({ listen }), 'started');
});

async function tlsClient(port: number, options: ConnectionOptions, isDirect: boolean): Promise<RawClient> {
  const plain = await RawClient.connect(port);
  if (!isDirect) {
    plain.socket.write(SSL_REQUEST);
    assert.equal((await plain.take(1)).toString(), 'S');
  }
  plain.socket.removeAllListeners('data');
  const ca = await fs.readFile(certificate.certificateFile);
  const secure = connectTls({ socket: plain.socket, ca, servername: 'localhost', ...options });
  await once(secure, 'secureConnect');
  return new RawClient(secure);
}

test('TLS: after SSLRequest, or at once with ALPN, with large answers', async (t) => {
  if (!(await hasOpenssl())) return t.skip(NO_OPENSSL);
  const serve = await testServe(t, server, { tls: certificate });
  await sql(server, "CREATE TABLE big AS SELECT repeat('x', 1000) FROM generate_series(1, 10000)");
  await sql(server, 'CHECKPOINT');
  const [row] = await sql<{ file: string }>(server, "SELECT pg_relation_filepath('big') AS file");
  const { user, password } = BACKUP_ROLE;
  for (const isDirect of [false, true]) {
    const client = await tlsClient(serve.port, isDirect ? { ALPNProtocols: ['postgresql'] } : {}, isDirect);
    await client.logIn(user, password);
    const answer = await client.query(`SEND_BACKUP_FILES ('./${row?.file}') START_WAL_LOCATION 'FFFFFFFF/0'`);
    assert.equal(flow(answer), 'Hd*cCZ');
    client.end();
  }
  const withoutAlpn = await tlsClient(serve.port, {}, true);
  assert.match(errorOf(await withoutAlpn.closed()) ?? '', /^08P01 FATAL: .*ALPN/);
  const inTheClear = await RawClient.logIn(serve.port, user, password);
  inTheClear.end();
});

test('pg_basebackup with sslmode=verify-full believes the certificate', async (t) => {
  if (!(await hasOpenssl())) return t.skip(NO_OPENSSL);
  const pgBasebackup = requireTool(t, 'pg_basebackup');
  if (pgBasebackup === undefined) return;
  const serve = await testServe(t, server, { tls: certificate });
  const target = path.join(await temporaryDirectory(t), 'backup');
  const { user, password } = BACKUP_ROLE;
  const conninfo = `host=localhost hostaddr=127.0.0.1 port=${serve.port} user=${user} sslmode=verify-full`;
  const args = [
    '-d',
    `${conninfo} sslrootcert=${certificate.certificateFile}`,
    '-D',
    target,
    '-c',
    'fast',
    '-N',
  ];
  const taken = await run(pgBasebackup, args, { env: { PGPASSWORD: password } });
  assert.equal(taken.status, 0, taken.stderr);
});

test('a session process that dies is replaced; only its own sessions are gone', async (t) => {
  const serve = await testServe(t, server, { processCount: 1 });
  const client = await backupClient(t, serve);
  assert.equal(errorOf(await client.query('START_BACKUP FAST')), undefined);
  const line = serve.log.find((each) => each.includes('connection authorized'));
  process.kill(Number(/\[(\d+)\]/.exec(line ?? '')?.[1]), 'SIGKILL');
  assert.deepEqual(await client.closed(), []);
  await until('the backup is out of backup mode', async () => {
    const rows = await sql(
      server,
      "SELECT 1 FROM pg_stat_activity WHERE query ~ 'log_timezone' AND pid <> pg_backend_pid()",
    );
    return rows.length === 0;
  });
  const another = await backupClient(t, serve);
  assert.equal(errorOf(await another.query('IDENTIFY_SYSTEM')), undefined);
});

test('SIGTERM ends all sessions with the reason, and the program with status 0', async (t) => {
  const serve = await spawnServe(t, server);
  const { user, password } = BACKUP_ROLE;
  const [idle, working, streaming] = await Promise.all(
    [0, 1, 2].map(() => RawClient.logIn(serve.port, user, password)),
  );
  assert.ok(idle && working && streaming);
  assert.equal(errorOf(await idle.query('START_BACKUP FAST')), undefined);
  const [row] = await sql<{ file: string }>(server, "SELECT pg_relation_filepath('big') AS file");
  working.send('Q', `SEND_BACKUP_FILES ('./${row?.file}') MAX_RATE 32\0`);
  assert.equal((await working.next()).type, 'H');
  streaming.send('Q', "BASE_BACKUP (CHECKPOINT 'fast', MAX_RATE 32)\0");
  while ((await streaming.next()).type !== 'd');
  const closed = once(streaming.socket, 'close');
  const start = performance.now();
  const status = await serve.stop();
  assert.equal(status, 0, serve.log());
  assert.ok(performance.now() - start < 5000);
  for (const client of [idle, working]) {
    assert.equal(
      errorOf(await client.closed()),
      '57P01 FATAL: terminating connection due to administrator command',
    );
  }
  // between two messages it would be told as well, inside one it cannot be
  await closed;
});

test('options that are wrong are told so', async () => {
  const serve = (...args: string[]) =>
    run(process.execPath, [PROGRAM, 'serve', ...args], { env: { PGPASSWORD: 'x', PGCONNECT_TIMEOUT: '5' } });
  const base = ['-D', server.dataDirectory, '-d', server.conninfo];
  const cases: readonly (readonly [readonly string[], RegExp])[] = [
    [[], /--pgdata/],
    [[...base, '--tls-cert', 'x'], /option --tls-cert needs --tls-key/],
    [[...base, '--listen', 'nonsense'], /invalid listen address: "nonsense"/],
    [[...base, '--listen', '0.0.0.0:0'], /refusing to listen beyond this machine without TLS[^]*--insecure/],
    [[...base, '--max-connections', '0'], /--max-connections/],
    [[...base, '--processes', 'many'], /--processes/],
    [[...base, 'stray'], /too many command-line arguments/],
    [['-D', server.dataDirectory, '-d', 'nonsense=1'], /nonsense/],
  ];
  const results = await Promise.all(cases.map(([args]) => serve(...args)));
  for (const [index, { status, stderr }] of results.entries()) {
    assert.equal(status, 1, stderr);
    assert.match(stderr, cases[index]?.[1] ?? /never/);
    assert.match(stderr, /^pgconvoy: error: /);
  }
});
