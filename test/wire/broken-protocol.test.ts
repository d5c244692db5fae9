/*
 * Connections to scripted servers that break the protocol at every step. Whatever a server sends, a command ends with its
 * result or with one ConvoyError.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { ConvoyError } from '../../src/errors.js';
import { ServerConnection } from '../../src/wire/connection.js';
import { connectTo, failureOf, LIMIT, OPTIONS, sends, type Answer } from '../support/scripted-connection.js';
import {
  columns,
  COMPLETE,
  COPY_OUT,
  copyData,
  errorMessage,
  head,
  message,
  READY,
  resultSet,
  row,
  ScriptedServer,
  type ScriptedSession,
} from '../support/scripted-server.js';
import { SeededRandom } from '../support/seeded-random.js';

const UNTERMINATED: readonly Buffer[] = [
  head('E', 4),
  message('E', Buffer.from('S')),
  message('E', Buffer.from('SERROR')),
  message('E', 'SERROR'),
  message('E', Buffer.from('\0\0x')),
  head('N', 4),
  message('N', 'SWARNING', 'Mhello'),
];

describe('a server that breaks the protocol while a client connects', LIMIT, () => {
  const cases: readonly (readonly [name: string, startup: Answer, code: string, said: RegExp])[] = [
    ['copy data', sends(copyData(Buffer.from('x'))), 'untrusted_peer', /copy data that nobody asked for/],
    ['a message of 2 GiB', sends(head('R', 2 ** 31)), 'untrusted_peer', /type "R", length 2147483648/],
    ['a length of 0', sends(head('S', 0)), 'untrusted_peer', /type "S", length 0/],
    [
      'another protocol',
      sends(Buffer.from('HTTP/1.1 400 Bad Request\r\n\r\n')),
      'untrusted_peer',
      /type "H"/,
    ],
    ['an unknown type', sends(message('?', 'x')), 'untrusted_peer', /invalid message of type "\?"/],
    ['an unknown way to log in', sends(message('R', 99)), 'untrusted_peer', /authentication/i],
    ['half an authentication request', sends(message('R', Buffer.from([0]))), 'untrusted_peer', /./],
    [
      'an error of its own',
      sends(errorMessage('53300', 'too many clients', 'FATAL')),
      'connection_failed',
      /FATAL: {2}too many clients/,
    ],
    [
      'nothing but the end',
      (session) => session.end(),
      'connection_failed',
      /connection to server at "127.0.0.1", port \d+ failed/,
    ],
    ['a reset', (session) => session.reset(), 'connection_failed', /failed/],
    ...UNTERMINATED.map((bytes): readonly [string, Answer, string, RegExp] => [
      `fields without their end: ${JSON.stringify(bytes.toString('latin1'))}`,
      sends(bytes),
      'untrusted_peer',
      /invalid message of type "[EN]"/,
    ]),
  ];
  for (const [name, startup, code, said] of cases) {
    test(name, async (t) => {
      const server = await ScriptedServer.listen(t, { startup, query: () => {} });
      const error = await failureOf(ServerConnection.open(server.settings(), OPTIONS));
      assert.equal(error.code, code, error.message);
      assert.match(error.message, said);
      assert.equal(server.sessions.length, 1, 'not tried again');
    });
  }

  test('a password that is asked for in clear, or not at all, is as libpq has it', async (t) => {
    const server = await ScriptedServer.listen(t, { startup: sends(message('R', 3)), query: () => {} });
    const error = await failureOf(ServerConnection.open(server.settings(), OPTIONS));
    assert.equal(error.code, 'connection_failed');
    assert.match(error.message, /fe_sendauth: no password supplied/);
  });

  test('silence ends after connect_timeout', async (t) => {
    const server = await ScriptedServer.listen(t, { startup: () => {}, query: () => {} });
    const settings = { ...server.settings(), connectTimeoutMs: 50 };
    const error = await failureOf(ServerConnection.open(settings, OPTIONS));
    assert.equal(error.code, 'connection_failed');
    assert.match(error.message, /timeout/);
  });
});

describe('a server that breaks the protocol in an answer', LIMIT, () => {
  const cases: readonly (readonly [name: string, answer: Answer, code: string, said: RegExp])[] = [
    [
      'copy data that nobody asked for',
      sends(COPY_OUT, copyData(Buffer.from('x'))),
      'untrusted_peer',
      /nobody asked for/,
    ],
    ['a row of 17 MiB', sends(columns('a'), head('D', 17 * 1024 * 1024)), 'untrusted_peer', /type "D"/],
    ['copy data of 2 GiB', sends(COPY_OUT, head('d', 2 ** 31)), 'untrusted_peer', /type "d"/],
    ['a type that there is none of', sends(message('!')), 'untrusted_peer', /invalid message of type "!"/],
    [
      'a row shorter than it says',
      sends(columns('a'), message('D', Buffer.from([0, 9]))),
      'untrusted_peer',
      /./,
    ],
    ['columns shorter than they say', sends(message('T', Buffer.from([0x7f, 0xff]))), 'untrusted_peer', /./],
    [
      'a negative number of values',
      sends(columns('a'), message('D', Buffer.from([0xff, 0xff]))),
      'untrusted_peer',
      /./,
    ],
    [
      'an error',
      sends(errorMessage('42501', 'must be superuser'), READY),
      'server_error',
      /^ERROR: {2}must be superuser$/,
    ],
    [
      'an error again and again',
      endless(errorMessage('XX000', 'again')),
      'server_error',
      /^ERROR: {2}again$/,
    ],
    ['a fatal error', (session) => fatal(session), 'connection_lost', /FATAL: {2}terminating connection/],
    [
      'its end',
      (session) => session.end(),
      'connection_lost',
      /lost connection to server at "127.0.0.1", port \d+/,
    ],
    ['its end inside a message', (session) => cut(session), 'connection_lost', /lost connection/],
    ['a reset', (session) => session.reset(), 'connection_lost', /lost connection/],
    ...UNTERMINATED.map((bytes): readonly [string, Answer, string, RegExp] => [
      `fields without their end: ${JSON.stringify(bytes.toString('latin1'))}`,
      sends(bytes),
      'untrusted_peer',
      /invalid message of type "[EN]"/,
    ]),
  ];
  for (const [name, answer, code, said] of cases) {
    test(name, async (t) => {
      const connection = await connectTo(t, answer);
      const error = await failureOf(connection.run('IDENTIFY_SYSTEM'));
      assert.equal(error.code, code, error.message);
      assert.match(error.message, said);
    });
  }

  test('garbage gives a result or one error', async (t) => {
    const random = new SeededRandom(80);
    const types = [
      'T',
      'D',
      'C',
      'Z',
      'E',
      'N',
      'S',
      'K',
      'R',
      'H',
      'c',
      'd',
      'G',
      'n',
      's',
      't',
      'A',
      'I',
      '1',
      '?',
    ];
    for (let round = 0; round < 150; round += 1) {
      const chunks = Array.from({ length: 1 + random.below(6) }, () =>
        message(random.pick(types), random.bytes(random.below(12))),
      );
      const connection = await connectTo(t, async (session) => {
        await session.write(...chunks);
        session.end();
      });
      const outcome = await connection.run('IDENTIFY_SYSTEM').catch((error: unknown) => error);
      assert.ok(Array.isArray(outcome) || outcome instanceof ConvoyError, String(outcome));
      connection.destroy();
    }
  });

  test('an answer to a question that has no end is given up', async (t) => {
    const answer = Buffer.concat([columns('a'), ...Array.from({ length: 1000 }, () => row('1'))]);
    const connection = await connectTo(t, sends(...Array.from({ length: 101 }, () => answer)));
    assert.equal((await failureOf(connection.query('SELECT 1'))).code, 'untrusted_peer');
  });

  test('what comes between two commands ends the connection', async (t) => {
    const connection = await connectTo(
      t,
      sends(resultSet([['x']]), COMPLETE, READY, copyData(Buffer.from('late'))),
    );
    assert.equal((await connection.run('FIRST')).length, 1);
    assert.equal((await connection.lost).code, 'untrusted_peer');
    assert.equal((await failureOf(connection.run('SECOND'))).code, 'connection_lost');
  });
});

function endless(chunk: Buffer): Answer {
  return async (session) => {
    while (!session.closed) {
      await session.write(chunk);
      await nextTurn();
    }
  };
}

async function fatal(session: ScriptedSession): Promise<void> {
  await session.write(errorMessage('57P01', 'terminating connection', 'FATAL'));
  session.end();
}

async function cut(session: ScriptedSession): Promise<void> {
  await session.write(columns('a'), row('whole'), row('a row that is cut').subarray(0, 12));
  session.end();
}
