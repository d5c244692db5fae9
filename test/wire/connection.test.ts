/*
 * Connections to scripted servers, and to real ones: answers, the end of a connection, and what the server hears of it.
 */
import assert from 'node:assert/strict';
import * as fs from 'node:fs/promises';
import path from 'node:path';
import { describe, test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { ConvoyError } from '../../src/errors.js';
import { ServerConnection } from '../../src/wire/connection.js';
import { resolveConnection } from '../../src/wire/conninfo.js';
import { until } from '../server/test-serve.js';
import { temporaryDirectory } from '../support/cleanup.js';
import { ManualClock } from '../support/manual-clock.js';
import { certificateFor, hasOpenssl, NO_OPENSSL } from '../support/certificate.js';
import { sql, testServer } from '../support/postgres.js';
import { connectTo, failureOf, LIMIT, OPTIONS, sends } from '../support/scripted-connection.js';
import {
  columns,
  COMPLETE,
  COPY_DONE,
  COPY_OUT,
  copyData,
  errorMessage,
  notice,
  READY,
  resultSet,
  row,
  ScriptedServer,
  welcome,
} from '../support/scripted-server.js';

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

  test('the longest of several waits counts', async (t) => {
    const pieces: string[] = [];
    const three = ['a', 'b', 'c'].map((text) => copyData(Buffer.from(text)));
    const connection = await connectTo(t, async (session) => {
      await session.write(COPY_OUT, ...three);
      await until('three pieces', () => pieces.length === 3);
      await session.write(copyData(Buffer.from('d')), COPY_DONE, COMPLETE, READY);
    });
    const releases: (() => void)[] = [];
    const result = connection.run('COPY', {
      copy: (piece) => {
        pieces.push(piece.toString());
        return new Promise<void>((resolve) => releases.push(resolve));
      },
    });
    await until('three pieces', () => pieces.length === 3);
    for (const each of [2, 0]) {
      releases[each]?.();
      for (let turn = 0; turn < 200; turn += 1) await nextTurn();
      assert.equal(pieces.length, 3);
    }
    releases[1]?.();
    await until('the fourth piece', () => pieces.length === 4);
    releases[3]?.();
    await result;
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

  test('a server that falls silent is lost within a quarter more than the limit, by the clock', async (t) => {
    const clock = new ManualClock();
    const connection = await connectTo(t, () => {}, { clock });
    let isLost = false;
    void connection.lost.then(() => (isLost = true));
    connection.limitSilence(8000);
    await clock.advance(7999);
    await nextTurn();
    assert.equal(isLost, false);
    await clock.advance(2001);
    await nextTurn();
    const { message } = await connection.lost;
    assert.match(
      message,
      /^lost connection to server at "127\.0\.0\.1", port \d+: nothing received for 8 s$/,
    );
  });

  test('what comes, or waits for us, is no silence', async (t) => {
    const clock = new ManualClock();
    let say = (_text: string): Promise<void> => Promise.resolve();
    const connection = await connectTo(
      t,
      async (session) => {
        await session.write(COPY_OUT);
        say = (text) => session.write(copyData(Buffer.from(text)));
      },
      { clock },
    );
    let isLost = false;
    void connection.lost.then(() => (isLost = true));
    connection.limitSilence(8000);
    const pieces: string[] = [];
    let release: () => void = () => {};
    const run = connection.run('COPY', {
      copy: (piece) => {
        pieces.push(piece.toString());
        return piece.toString() === 'b' ? new Promise((resolve) => (release = resolve)) : undefined;
      },
    });
    const ended = assert.rejects(run, { code: 'connection_lost' });
    await until('the copy has begun', async () => {
      await say('a');
      return pieces.length > 0;
    });
    await clock.advance(7000);
    await say('b');
    await until('b', () => pieces.includes('b'));
    // held back on this side
    await clock.advance(60_000);
    assert.equal(isLost, false);
    release();
    await nextTurn();
    await clock.advance(7000);
    assert.equal(isLost, false);
    await clock.advance(3000);
    await connection.lost;
    await ended;
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

test(
  'what runs on a connection that is abandoned is cancelled on the server, through TLS as well',
  LIMIT,
  async (t) => {
    if (!(await hasOpenssl())) return t.skip(NO_OPENSSL);
    const directory = await temporaryDirectory(t);
    const [certificate, key] = await certificateFor(directory, 'localhost');
    const server = await testServer(t, { major: 15, start: false });
    for (const [from, name] of [
      [certificate, 'server.crt'],
      [key, 'server.key'],
    ] as const) {
      const to = path.join(server.dataDirectory, name);
      await fs.copyFile(from, to);
      await fs.chmod(to, 0o600);
      if (server.account !== undefined) await fs.chown(to, server.account.uid, server.account.gid);
    }
    await fs.appendFile(path.join(server.dataDirectory, 'postgresql.conf'), '\nssl = on\n');
    await server.start();
    const settings = resolveConnection({
      dbname: server.conninfo,
      environment: {},
      homeDirectory: '/nonexistent',
      osUser: 'nobody',
    });
    for (const sslmode of ['disable', 'require'] as const) {
      const applicationName = `abandoned ${sslmode}`;
      const connection = await ServerConnection.open({ ...settings, sslmode }, { applicationName });
      // it would not notice the end of its client
      const sleeping = failureOf(connection.query('SELECT pg_sleep(600)'));
      const sessions = `SELECT state FROM pg_stat_activity WHERE application_name = '${applicationName}'`;
      await until(
        'it sleeps',
        async () => (await sql(server, `${sessions} AND state = 'active'`)).length === 1,
      );
      connection.abandon();
      assert.equal((await sleeping).code, 'connection_lost');
      await until('the session has ended', async () => (await sql(server, sessions)).length === 0);
    }
  },
);
