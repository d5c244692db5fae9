/* Who gets in to `serve` and who does not, seen from the wire. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import test, { before } from 'node:test';
import type { EmbeddedServer } from '../../src/demo/embedded-server.js';
import { cleanup } from '../support/cleanup.js';
import { sql, testServer } from '../support/postgres.js';
import {
  describeError,
  errorOf,
  flow,
  GSSENC_REQUEST,
  int32,
  message,
  packet,
  RawClient,
  SSL_REQUEST,
  startupPacket,
} from './raw-client.js';
import { BACKUP_ROLE, createBackupRole, fileScope, testServe, until, type TestServe } from './test-serve.js';

const scope = fileScope();
let server: EmbeddedServer;
let serve: TestServe;

before(async () => {
  server = await testServer(scope, { major: 15 });
  serve = await testServe(scope, server);
  await createBackupRole(server);
  await sql(
    server,
    `CREATE ROLE no_replication LOGIN PASSWORD 'x';
     CREATE ROLE no_login REPLICATION PASSWORD 'x';
     CREATE ROLE expired LOGIN REPLICATION PASSWORD 'x' VALID UNTIL '2020-01-01';
     CREATE ROLE still_valid LOGIN REPLICATION PASSWORD 'x' VALID UNTIL '2100-01-01';
     CREATE ROLE no_password LOGIN REPLICATION;
     CREATE ROLE "odd ""name\\, Ä" LOGIN REPLICATION PASSWORD 'x';
     SET password_encryption = md5;
     CREATE ROLE with_md5 LOGIN REPLICATION PASSWORD 'x'`,
  );
});

function refusal(user: string, password: string, more: Record<string, string> = {}): Promise<string> {
  return RawClient.logIn(serve.port, user, password, more).then(
    (client) => {
      client.end();
      return 'logged in';
    },
    (error: unknown) => (error instanceof Error ? error.message : String(error)),
  );
}

test('the right password lets a replication role in, with the parameters of the real server', async () => {
  const { user, password } = BACKUP_ROLE;
  const client = await RawClient.logIn(serve.port, user, password, { application_name: 'my app' });
  const [row] = await sql<{ version: string; zone: string }>(
    server,
    "SELECT current_setting('server_version') AS version, current_setting('TimeZone') AS zone",
  );
  assert.equal(client.parameters.get('server_version'), row?.version);
  assert.equal(client.parameters.get('TimeZone'), row?.zone);
  assert.equal(client.parameters.get('session_authorization'), user);
  assert.equal(client.parameters.get('is_superuser'), 'off');
  assert.equal(client.parameters.get('application_name'), 'my app');
  assert.ok(client.processId > 0);
  assert.equal(client.secretKey.length, 4);
  client.end();
});

test('every spelling of replication is taken', async () => {
  for (const replication of ['true', 'on', '1', 'yes', 'database', 'TRUE']) {
    assert.equal(
      await refusal(BACKUP_ROLE.user, BACKUP_ROLE.password, { replication }),
      'logged in',
      replication,
    );
  }
});

test('a superuser, a role with an odd name and one whose password is still valid get in', async () => {
  assert.equal(await refusal(server.user, server.password), 'logged in');
  assert.equal(await refusal('odd "name\\, Ä', 'x'), 'logged in');
  assert.equal(await refusal('still_valid', 'x'), 'logged in');
});

test('unknown role, wrong, missing, expired and MD5 password look alike; the log has the reason', async () => {
  const cases: readonly { readonly user: string; readonly reason: string }[] = [
    { user: BACKUP_ROLE.user, reason: 'the password is wrong' },
    { user: 'nobody_here', reason: 'the role does not exist' },
    { user: 'no_password', reason: 'it has no password' },
    { user: 'expired', reason: 'its password has expired' },
    { user: 'with_md5', reason: 'its password is not stored for SCRAM-SHA-256' },
  ];
  for (const { user, reason } of cases) {
    assert.equal(await refusal(user, 'x'), `28P01 FATAL: password authentication failed for user "${user}"`);
    await until(`the log says "${reason}"`, () =>
      serve.log.some((line) => line.includes(`failed for user "${user}": ${reason}`)),
    );
  }
});

test('an unknown role has the same salt each time, and the iterations of the others', async () => {
  const challenge = async (user: string): Promise<string> => {
    const client = await RawClient.connect(serve.port);
    client.socket.write(startupPacket({ user, replication: 'true' }));
    assert.equal((await client.next()).type, 'R');
    const first = 'n,,n=*,r=abc';
    client.send(
      'p',
      Buffer.concat([Buffer.from('SCRAM-SHA-256\0'), int32(first.length), Buffer.from(first)]),
    );
    const { body } = await client.next();
    client.socket.destroy();
    return body.toString('utf8', 4).replace(/^r=[^,]+,/, '');
  };
  const [known, unknown] = [await challenge(BACKUP_ROLE.user), await challenge('nobody_here')];
  assert.equal(await challenge(BACKUP_ROLE.user), known);
  assert.equal(await challenge('nobody_here'), unknown);
  assert.notEqual(known, unknown);
  const shape = /^s=[A-Za-z0-9+/]{22}==,i=4096$/;
  assert.match(known, shape);
  assert.match(unknown, shape);
});

test('a right password without the right to replicate or to log in is told so', async () => {
  assert.match(await refusal('no_replication', 'x'), /^42501 FATAL: must be superuser or replication role/);
  assert.match(await refusal('no_login', 'x'), /^28000 FATAL: role "no_login" is not permitted to log in/);
});

test('a connection for SQL, or without a user, is refused with a clear message', async () => {
  const only = '0A000 FATAL: pgconvoy serve takes replication connections only';
  assert.equal(await refusal('x', 'x', { replication: 'false' }), only);
  assert.match(
    await refusal('x', 'x', { replication: 'maybe' }),
    /^22023 FATAL: invalid value for parameter/,
  );
  const client = await RawClient.connect(serve.port);
  client.socket.write(startupPacket({ database: 'postgres', replication: 'true' }));
  assert.match(errorOf(await client.closed()) ?? '', /^28000 FATAL: no PostgreSQL user name/);
});

test('a newer minor version and protocol options are negotiated down', async () => {
  const client = await RawClient.connect(serve.port);
  const { user, password } = BACKUP_ROLE;
  client.socket.write(startupPacket({ user, replication: 'true', '_pq_.wish': '1' }, 0x30002));
  const { type, body } = await client.next();
  assert.equal(type, 'v');
  assert.deepEqual(body, Buffer.concat([int32(0), int32(1), Buffer.from('_pq_.wish\0')]));
  await client.authenticate(password);
  assert.equal(errorOf(await client.query('IDENTIFY_SYSTEM')), undefined);
  client.end();
});

test('offers of encryption are declined without TLS, and the client goes on in the clear', async () => {
  const client = await RawClient.connect(serve.port);
  client.socket.write(GSSENC_REQUEST);
  assert.equal((await client.take(1)).toString(), 'N');
  client.socket.write(SSL_REQUEST);
  assert.equal((await client.take(1)).toString(), 'N');
  await client.logIn(BACKUP_ROLE.user, BACKUP_ROLE.password);
  client.end();
});

test('bytes behind a request for encryption end the connection (CVE-2021-23222)', async () => {
  for (const request of [SSL_REQUEST, GSSENC_REQUEST]) {
    const client = await RawClient.connect(serve.port);
    client.socket.write(Buffer.concat([request, startupPacket({ user: 'x', replication: 'true' })]));
    assert.match(errorOf(await client.closed()) ?? '', /^08P01 FATAL: received unencrypted data after/);
  }
});

test('a broken beginning is refused, whatever it is', async () => {
  const beginnings: readonly Buffer[] = [
    int32(7),
    int32(10_001),
    int32(-1),
    Buffer.from('GET / HTTP/1.1\r\n\r\n'),
    packet(0x20000),
    packet(0x30000, 'user'),
    packet(0x30000, 'user\0x\0replication\0true\0'),
  ];
  for (const beginning of beginnings) {
    const client = await RawClient.connect(serve.port);
    client.socket.write(beginning);
    assert.match(
      errorOf(await client.closed()) ?? '',
      /^(08P01|0A000) FATAL: /,
      beginning.toString('latin1'),
    );
  }
});

test('before the password is right, nothing but passwords of sensible length is taken', async () => {
  const messages: readonly Buffer[] = [
    message('Q', 'IDENTIFY_SYSTEM\0'),
    Buffer.concat([Buffer.from('p'), int32(100_000)]),
    message('p', 'SCRAM-SHA-1\0\0\0\0\0'),
    message('p', 'SCRAM-SHA-256\0'),
  ];
  for (const each of messages) {
    const client = await RawClient.connect(serve.port);
    client.socket.write(startupPacket({ user: BACKUP_ROLE.user, replication: 'true' }));
    assert.equal((await client.next()).type, 'R');
    client.socket.write(each);
    assert.match(errorOf(await client.closed()) ?? '', /^08P01 FATAL: /, each.toString('latin1'));
  }
});

test('a client that says nothing, or stops half-way, is dropped', async (t) => {
  const impatient = await testServe(t, server, { loginTimeoutMs: 300, processCount: 1 });
  const silent = await RawClient.connect(impatient.port);
  assert.deepEqual(await silent.closed(), []);
  for (const part of [Buffer.from([0, 0]), int32(100), Buffer.concat([int32(100), Buffer.alloc(50)])]) {
    const partial = await RawClient.connect(impatient.port);
    partial.socket.write(part);
    assert.deepEqual(await partial.closed(), []);
  }
  const halfway = await RawClient.connect(impatient.port);
  halfway.socket.write(startupPacket({ user: BACKUP_ROLE.user, replication: 'true' }));
  const answer = await halfway.closed();
  assert.equal(flow(answer), 'RE');
  assert.equal(errorOf(answer), '57014 FATAL: canceling authentication due to timeout');
});

test('past the limit clients are told that there are too many; a place that is freed is given away', async (t) => {
  const small = await testServe(t, server, { maxConnections: 2 });
  const { user, password } = BACKUP_ROLE;
  const first = await RawClient.logIn(small.port, user, password);
  const second = await RawClient.logIn(small.port, user, password);
  await assert.rejects(
    RawClient.logIn(small.port, user, password),
    /^Error: 53300 FATAL: sorry, too many clients already/,
  );
  first.end();
  await until('the place of the first client is free', async () => {
    const third = await RawClient.logIn(small.port, user, password).catch(() => undefined);
    third?.end();
    return third !== undefined;
  });
  second.end();
});

test('clients that say nothing take no place, however many; the oldest of them go', async (t) => {
  const small = await testServe(t, server, { maxConnections: 2, processCount: 2 });
  const silent: RawClient[] = [];
  cleanup(t, () => {
    for (const client of silent) client.end();
  });
  for (let n = 0; n < 100; n += 1) silent.push(await RawClient.connect(small.port));
  const { user, password } = BACKUP_ROLE;
  const clients = [
    await RawClient.logIn(small.port, user, password),
    await RawClient.logIn(small.port, user, password),
  ];
  // 64 of those who have not logged in are left
  await Promise.all(silent.slice(0, 36).map(async (client) => assert.deepEqual(await client.closed(), [])));
  assert.ok(silent.slice(40).every(({ socket }) => !socket.destroyed));
  for (const client of clients) client.end();
});

test('a server behind that is down means no login, and logins again when it is back', async (t) => {
  const other = await testServer(t, { major: 15 });
  await createBackupRole(other);
  const front = await testServe(t, other, { processCount: 1 });
  const { user, password } = BACKUP_ROLE;
  const early = await RawClient.logIn(front.port, user, password);
  await other.stop();
  await assert.rejects(RawClient.logIn(front.port, user, password), /^Error: 57P03 FATAL: /);
  await other.start();
  const late = await RawClient.logIn(front.port, user, password);
  assert.equal(errorOf(await late.query('IDENTIFY_SYSTEM')), undefined);
  for (const client of [early, late]) client.end();
});

test('a socket that only connects and goes away leaves nothing behind', async () => {
  const socket = connect(serve.port, '127.0.0.1');
  await once(socket, 'connect');
  socket.destroy();
  const client = await RawClient.logIn(serve.port, BACKUP_ROLE.user, BACKUP_ROLE.password);
  const [error] = await client.query('NONSENSE');
  assert.ok(error);
  assert.match(describeError(error.body), /^0A000 ERROR: cannot execute SQL commands/);
  client.end();
});
