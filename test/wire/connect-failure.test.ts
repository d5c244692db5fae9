/* Errors of node:net, as they really come, in libpq's words. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, createServer, type NetConnectOpts } from 'node:net';
import { test } from 'node:test';
import { connectFailure } from '../../src/wire/connect-failure.js';
import { resolveConnection, type ConnectionSettings } from '../../src/wire/conninfo.js';

const IS_IT_RUNNING = 'is the server running on that host and accepting TCP/IP connections?';

function settingsFor(host: string): ConnectionSettings {
  return resolveConnection({ dbname: `host=${host}`, environment: {}, homeDirectory: '', osUser: 'me' });
}

async function errorOf(options: NetConnectOpts): Promise<unknown> {
  const socket = connect(options);
  try {
    const [error] = (await once(socket, 'error')) as unknown[];
    return error;
  } catch (error) {
    return error;
  } finally {
    socket.destroy();
  }
}

/** A port of 127.0.0.1 that nobody listens on. */
async function unusedPort(): Promise<number> {
  const listener = createServer().listen(0, '127.0.0.1');
  await once(listener, 'listening');
  const address = listener.address();
  await new Promise((resolve) => listener.close(resolve));
  return typeof address === 'object' ? (address?.port ?? 0) : 0;
}

test('nobody listens', async () => {
  const error = await errorOf({ host: '127.0.0.1', port: await unusedPort() });
  const expected = { message: 'Connection refused', hint: IS_IT_RUNNING };
  assert.deepEqual(connectFailure(settingsFor('127.0.0.1'), error), expected);
});

test('nobody listens at any address of a name', async () => {
  const error = await errorOf({
    host: 'two.example',
    port: await unusedPort(),
    autoSelectFamily: true,
    lookup: (_host, _options, done) =>
      done(null, [
        { address: '127.0.0.1', family: 4 },
        { address: '127.0.0.2', family: 4 },
      ]),
  });
  assert.ok(error instanceof AggregateError);
  const expected = { message: 'Connection refused', hint: IS_IT_RUNNING };
  assert.deepEqual(connectFailure(settingsFor('two.example'), error), expected);
});

test('there is no socket', async () => {
  const error = await errorOf({ path: '/nonexistent/.s.PGSQL.5432' });
  assert.deepEqual(connectFailure(settingsFor('/nonexistent'), error), {
    message: 'No such file or directory',
    hint: 'is the server running locally and accepting connections on that socket?',
  });
});

test('a name is unknown', () => {
  const error = Object.assign(new Error('getaddrinfo ENOTFOUND no.example'), {
    code: 'ENOTFOUND',
    syscall: 'getaddrinfo',
  });
  assert.deepEqual(connectFailure(settingsFor('no.example'), error), {
    message: 'could not translate host name "no.example" to address: Name or service not known',
    hint: undefined,
  });
});

test('what has no words of its own keeps its message', () => {
  const error = new Error('timeout expired');
  assert.deepEqual(connectFailure(settingsFor('a'), error), { message: 'timeout expired', hint: undefined });
});
