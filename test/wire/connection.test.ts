/*
 * Connections to scripted servers that break the protocol at every step, and to a real one. Whatever a server
 * sends, a command ends with its result or with one ConvoyError.
 */
import assert from 'node:assert/strict';
import { describe, test, type TestContext } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { ConvoyError } from '../../src/errors.js';
import { ServerConnection } from '../../src/wire/connection.js';
import { resolveConnection } from '../../src/wire/conninfo.js';
import { testServer } from '../support/postgres.js';
import { SeededRandom } from '../support/seeded-random.js';
import {
  columns,
  COMPLETE,
  COPY_DONE,
  COPY_OUT,
  copyData,
  errorMessage,
  head,
  message,
  notice,
  READY,
  resultSet,
  row,
  ScriptedServer,
  welcome,
  type ScriptedSession,
} from '../support/scripted-server.js';

const OPTIONS = { replication: true, applicationName: 'test' };
const LIMIT = { timeout: 20_000 };

type Answer = (session: ScriptedSession) => Promise<void> | void;

function sends(...chunks: readonly Buffer[]): Answer {
  return (session) => session.write(...chunks);
}

async function connectTo(t: TestContext, answer: Answer): Promise<ServerConnection> {
  const server = await ScriptedServer.listen(t, { query: (_text, session) => answer(session) });
  const connection = await ServerConnection.open(server.settings(), OPTIONS);
  t.after(() => connection.destroy());
  return connection;
}

async function failureOf(promise: Promise<unknown>): Promise<ConvoyError> {
  const outcome = await promise.then(
    () => undefined,
    (error: unknown) => error,
  );
  assert.ok(outcome instanceof ConvoyError, `a ConvoyError, not ${String(outcome)}`);
  return outcome;
}

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

describe('answers', LIMIT, () => {
  test('result sets are kept apart by their columns, as in the file list', async (t) => {
    const sets = [
      columns('a', 'b'),
      row('1', null),
      row('', 'ü'),
      columns('c'),
      columns('d'),
      row('2'),
      COMPLETE,
      COMPLETE,
    ];
    const connection = await connectTo(t, sends(...sets, READY));
    assert.deepEqual(await connection.run('LIST'), [
      {
        columns: ['a', 'b'],
        rows: [
          ['1', null],
          ['', 'ü'],
        ],
      },
      { columns: ['c'], rows: [] },
      { columns: ['d'], rows: [['2']] },
    ]);
  });

  test('rows go to whoever takes them, with the number of their set, and are not kept', async (t) => {
    const connection = await connectTo(
      t,
      sends(resultSet([['1'], ['2']]), resultSet([]), resultSet([['3']]), COMPLETE, READY),
    );
    const taken: unknown[] = [];
    const sets = await connection.run('LIST', { row: (set, values) => taken.push([set, ...values]) });
    assert.deepEqual(taken, [
      [0, '1'],
      [0, '2'],
      [2, '3'],
    ]);
    assert.ok(sets.every(({ rows }) => rows.length === 0));
  });

  test('a row that is not liked fails the command, and the connection stays usable', async (t) => {
    const connection = await connectTo(t, sends(resultSet([['1'], ['2']]), COMPLETE, READY));
    const failure = new ConvoyError('file_damaged', 'not this row');
    const thrown = connection.run('LIST', {
      row: () => {
        throw failure;
      },
    });
    assert.equal(await failureOf(thrown), failure);
    assert.equal((await connection.run('LIST')).length, 1);
  });

  test('a row that nobody may send ends the connection, however long the answer goes on', async (t) => {
    const connection = await connectTo(t, sends(resultSet([['1'], ['2']])));
    const failure = new ConvoyError('untrusted_peer', 'not this row');
    const thrown = connection.run('LIST', {
      row: () => {
        throw failure;
      },
    });
    assert.equal(await failureOf(thrown), failure);
    assert.equal(await connection.lost, failure);
  });

  test('the answer to one command is over before the next one is sent', async (t) => {
    const connection = await connectTo(t, (session) =>
      session.write(resultSet([[session.queries.at(-1) ?? '']]), COMPLETE, READY),
    );
    const answers = await Promise.all(['ONE', 'TWO', 'THREE'].map((text) => connection.run(text)));
    assert.deepEqual(
      answers.map(([set]) => set?.rows),
      [[['ONE']], [['TWO']], [['THREE']]],
    );
  });

  test('notices are told, inside COPY too', async (t) => {
    const connection = await connectTo(
      t,
      sends(
        notice('first'),
        COPY_OUT,
        copyData(Buffer.from('ab')),
        notice('second'),
        COPY_DONE,
        COMPLETE,
        READY,
      ),
    );
    const heard: string[] = [];
    connection.onNotice = ({ severity, message: text }) => heard.push(`${severity}: ${text}`);
    const pieces: string[] = [];
    await connection.run('COPY', { copy: (piece) => void pieces.push(piece.toString()) });
    assert.deepEqual(heard, ['WARNING: first', 'WARNING: second']);
    assert.equal(pieces.join(''), 'ab');
  });

  test('a wait stops the reading until it is over', async (t) => {
    const chunk = Buffer.alloc(64 * 1024, 'x');
    const total = 400;
    let sent = 0;
    const connection = await connectTo(t, async (session) => {
      await session.write(COPY_OUT);
      for (; sent < total; sent += 1) await session.write(copyData(chunk));
      await session.write(COPY_DONE, COMPLETE, READY);
    });
    let received = 0;
    let release: () => void = () => {};
    const wait = new Promise<void>((resolve) => (release = resolve));
    let begin: () => void = () => {};
    const begun = new Promise<void>((resolve) => (begin = resolve));
    const result = connection.run('COPY', {
      copy: (piece) => {
        received += piece.length;
        begin();
        return wait;
      },
    });
    await begun;
    // the sender fills the kernel's buffers and stops there
    for (let before = -1; before !== sent;) {
      before = sent;
      for (let turn = 0; turn < 200; turn += 1) await nextTurn();
    }
    assert.ok(sent < total, 'the sender had to wait');
    assert.ok(received <= 1024 * 1024, `${received} bytes were taken during the wait`);
    release();
    await result;
    assert.equal(received, total * chunk.length);
  });

  test('an error is one in every language of the server', async (t) => {
    const errors = [
      errorMessage('XX001', 'Prüfsummenfehler', 'ERROR', 'FEHLER'),
      errorMessage('57P01', 'Verbindung wird abgebrochen', 'FATAL', 'FATAL'),
    ];
    const connection = await connectTo(t, async (session) => {
      const error = errors.shift();
      if (error !== undefined) await session.write(error, ...(errors.length > 0 ? [READY] : []));
    });
    const answer = await failureOf(connection.run('FIRST'));
    assert.equal(answer.code, 'server_error');
    assert.equal(answer.message, 'FEHLER:  Prüfsummenfehler');
    assert.equal((await failureOf(connection.run('SECOND'))).code, 'connection_lost');
  });

  test('what the taker of a copy throws ends the command and the connection', async (t) => {
    const connection = await connectTo(
      t,
      sends(COPY_OUT, copyData(Buffer.from('x')), COPY_DONE, COMPLETE, READY),
    );
    const failure = new ConvoyError('target_io', 'could not write file "x": No space left on device');
    const result = connection.run('COPY', {
      copy: () => {
        throw failure;
      },
    });
    assert.equal(await failureOf(result), failure);
    assert.equal(await connection.lost, failure);
  });
});

describe('the end of a connection', LIMIT, () => {
  test('a loss is told to whoever watches, once', async (t) => {
    const connection = await connectTo(t, (session) => session.end());
    const error = await failureOf(connection.run('X'));
    assert.equal(error.code, 'connection_lost');
    assert.equal((await connection.lost).code, 'connection_lost');
    assert.equal((await failureOf(connection.run('Y'))).code, 'connection_lost');
  });

  test('dropping it rejects what runs, and is no loss', async (t) => {
    const connection = await connectTo(t, () => {});
    const running = failureOf(connection.run('X'));
    await nextTurn();
    connection.destroy();
    assert.equal((await running).code, 'connection_lost');
    let isLost = false;
    void connection.lost.then(() => (isLost = true));
    await nextTurn();
    assert.equal(isLost, false);
  });

  test('closing says goodbye, twice does no harm', async (t) => {
    const server = await ScriptedServer.listen(t, { query: () => {} });
    const connection = await ServerConnection.open(server.settings(), OPTIONS);
    await Promise.all([connection.close(), connection.close()]);
    await connection.close();
    assert.equal(server.sessions[0]?.closed, true);
  });

  test('a server that ignores the goodbye is left after a second', async (t) => {
    const server = await ScriptedServer.listen(t, {
      startup: sends(welcome()),
      query: () => {},
      terminate: () => {},
    });
    const connection = await ServerConnection.open(server.settings(), OPTIONS);
    const before = performance.now();
    await connection.close();
    assert.ok(performance.now() - before < 5000);
  });
});

test('a real server: commands, SQL with parameters, errors and parameters', LIMIT, async (t) => {
  const server = await testServer(t, { major: 18 });
  const settings = resolveConnection({
    dbname: server.conninfo,
    environment: {},
    homeDirectory: '/nonexistent',
    osUser: 'nobody',
  });
  const walsender = await ServerConnection.open(settings, OPTIONS);
  t.after(() => walsender.destroy());
  assert.match(walsender.parameters.get('server_version') ?? '', /^18\./);
  assert.equal(walsender.password, server.password);
  const [system] = await walsender.run('IDENTIFY_SYSTEM');
  assert.deepEqual(system?.columns, ['systemid', 'timeline', 'xlogpos', 'dbname']);
  const unknown = await failureOf(walsender.run('SEND_BACKUP_FILELIST'));
  assert.equal(unknown.code, 'server_error');
  assert.equal((await walsender.run('SHOW wal_segment_size'))[0]?.rows[0]?.[0], '16MB');
  await walsender.close();

  const session = await ServerConnection.open(settings, { applicationName: 'test' });
  t.after(() => session.destroy());
  assert.deepEqual(await session.query('select $1::int + 1, $2::text, null', [41, 'ü']), [['42', 'ü', null]]);
  const division = await failureOf(session.query('select 1/0'));
  assert.equal(division.code, 'server_error');
  assert.equal(division.sqlState, '22012');
  assert.deepEqual(await session.query('select 1'), [['1']]);
  const gone = failureOf(session.query('select pg_terminate_backend(pg_backend_pid())'));
  assert.equal((await gone).code, 'connection_lost');
  assert.equal((await session.lost).code, 'connection_lost');

  const wrong = await failureOf(ServerConnection.open({ ...settings, password: 'wrong' }, OPTIONS));
  assert.equal(wrong.code, 'connection_failed');
  assert.equal(wrong.sqlState, '28P01');
});
