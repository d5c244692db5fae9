/* What no walsender may send, and what keeps one from going on: the receiver says it at once. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { describe, test } from 'node:test';
import { ConvoyError, type ErrorCode } from '../../src/errors.js';
import {
  COMPLETE,
  COPY_BOTH,
  copyData,
  errorMessage,
  head,
  READY,
  resultSet,
} from '../support/scripted-server.js';
import { sendWal, walData, walsender, type Walsender, type WalsenderScript } from '../support/wal-stream.js';
import { LIMIT, MiB, START_LSN, START, THIRD, MemorySink, setUp, begin, sending } from './receiver-setup.js';

interface Failure {
  readonly name: string;
  readonly script: (self: () => Walsender) => WalsenderScript;
  readonly code: ErrorCode;
  readonly said: RegExp;
  readonly hint?: RegExp;
}

function streaming(...chunks: readonly Buffer[]): () => WalsenderScript {
  return () => ({ stream: (session) => session.write(...chunks.map(copyData)) });
}

const FAILURES: readonly Failure[] = [
  {
    name: 'a gap in the WAL',
    script: streaming(walData(START, Buffer.alloc(10)), walData(START + 11n, Buffer.alloc(10))),
    code: 'untrusted_peer',
    said: /^got WAL data at 0\/30000B, expected 0\/30000A$/,
  },
  {
    name: 'WAL that comes twice',
    script: streaming(walData(START, Buffer.alloc(10)), walData(START, Buffer.alloc(10))),
    code: 'untrusted_peer',
    said: /^got WAL data at 0\/300000, expected 0\/30000A$/,
  },
  {
    name: 'WAL that begins elsewhere',
    script: streaming(walData(START + 0x28n, Buffer.alloc(10))),
    code: 'untrusted_peer',
    said: /^got WAL data at 0\/300028, expected 0\/300000$/,
  },
  {
    name: 'a message of an unknown kind',
    script: streaming(Buffer.from('B')),
    code: 'untrusted_peer',
    said: /^unrecognized streaming header: "B"$/,
  },
  {
    name: 'a message without end',
    script: () => ({
      stream: async (session) => {
        await session.write(head('d', 900 * MiB), walData(START, Buffer.alloc(0)));
        while (!session.closed) await session.write(Buffer.alloc(64 * 1024));
      },
    }),
    code: 'untrusted_peer',
    said: /^streaming message too large$/,
  },
  {
    name: 'an error in the middle of the stream',
    script: () => ({ stream: (session) => session.write(errorMessage('XX000', 'out of order')) }),
    code: 'server_error',
    said: /^could not receive data from WAL stream: ERROR: +out of order$/,
  },
  {
    name: 'a second stream in the stream',
    script: () => ({ stream: (session) => session.write(COPY_BOTH) }),
    code: 'untrusted_peer',
    said: /^the server began a copy that nobody asked for$/,
  },
  {
    name: 'WAL that is gone',
    script: () => ({
      stream: (session) =>
        session.write(
          errorMessage('58P01', `requested WAL segment ${THIRD} has already been removed`),
          READY,
        ),
    }),
    code: 'wal_missing',
    said: /^could not receive data from WAL stream: ERROR: +requested WAL segment [0-9A-F]{24} has already been removed$/,
    hint: /^let a replication slot hold the WAL \(without --no-slot\), or raise wal_keep_size on the server$/,
  },
  {
    name: 'an administrator who ends the walsender',
    script: () => ({
      stream: async (session) => {
        await session.write(
          errorMessage('57P01', 'terminating connection due to administrator command', 'FATAL'),
        );
        session.end();
      },
    }),
    code: 'connection_lost',
    said: /^could not receive data from WAL stream: FATAL: +terminating connection due to administrator command$/,
  },
  {
    name: 'a connection that is reset',
    script: () => ({ stream: (session) => session.reset() }),
    code: 'connection_lost',
    said: /^could not receive data from WAL stream: lost connection to server at "127\.0\.0\.1", port \d+: /,
  },
  {
    name: 'a server that shuts down',
    script: () => ({
      stream: async (session) => {
        await session.write(COMPLETE);
        session.end();
      },
    }),
    code: 'connection_lost',
    said: /^could not receive data from WAL stream: lost connection to /,
  },
  ...(
    [
      [
        undefined,
        'connection_lost',
        /^could not receive .*: replication stream was terminated before stop point$/,
      ],
      [['2'], 'untrusted_peer', /^unexpected result set after end-of-timeline$/],
      [['two', '0/300064'], 'untrusted_peer', /^unexpected result set after end-of-timeline$/],
      [['2', 'here'], 'untrusted_peer', /^unexpected result set after end-of-timeline$/],
      [
        ['1', '0/300064'],
        'untrusted_peer',
        /^server reported unexpected next timeline 1, following timeline 1$/,
      ],
      [
        ['2', '0/300065'],
        'untrusted_peer',
        /^server stopped streaming timeline 1 at 0\/300064, but reported next timeline 2 to begin at 0\/300065$/,
      ],
    ] as const
  ).map(([next, code, said]) => ({
    name: `a timeline that ends with ${next === undefined ? 'nothing' : `(${next.join(', ')})`}`,
    script: (self: () => Walsender): WalsenderScript => ({
      stream: async (session) => {
        await sendWal(session, START, Buffer.alloc(100));
        await self().endTimeline(session, next);
      },
    }),
    code,
    said,
  })),
  ...(
    [
      [
        [['00000003.history', 'text']],
        /^server reported unexpected history file name for timeline 2: 00000003\.history$/,
      ],
      [[['00000002.history', null]], /^unexpected response to TIMELINE_HISTORY command$/],
      [[], /^unexpected response to TIMELINE_HISTORY command$/],
    ] as const
  ).map(([rows, said], index) => ({
    name: `a history that is none (${index})`,
    script: (self: () => Walsender): WalsenderScript => ({
      stream: (session) => self().endTimeline(session, ['2', '0/300000']),
      spoil: async (command, session) => {
        if (!command.startsWith('TIMELINE_HISTORY')) return false;
        await session.write(resultSet(rows, 2), COMPLETE, READY);
        return true;
      },
    }),
    code: 'untrusted_peer' as const,
    said,
  })),
];

describe('a failure during the stream is told at once', LIMIT, () => {
  for (const { name, script: makeScript, code, said, hint } of FAILURES) {
    test(name, async (t) => {
      const script: Walsender = walsender(makeScript(() => script));
      const setup = await setUp(t, script);
      // it may come with the answer to START_REPLICATION
      await begin(setup).catch(() => {});
      const failure = await setup.receiver.failed;
      assert.match(failure.message, said);
      assert.equal(failure.code, code);
      if (hint === undefined) assert.equal(failure.hint, undefined);
      else assert.match(failure.hint ?? '', hint);
      await assert.rejects(setup.receiver.finish({ lsn: START_LSN, endsSegment: true }), failure);
      assert.equal(setup.clock.waiting, 0);
    });
  }

  test('what cannot be written', async (t) => {
    class FullSink extends MemorySink {
      override write(): undefined {
        throw new ConvoyError('target_io', 'could not write file "x": No space left on device');
      }
    }
    const setup = await setUp(t, walsender(sending(randomBytes(100))), { sink: new FullSink() });
    await begin(setup);
    const { code, message } = await setup.receiver.failed;
    assert.equal(code, 'target_io');
    assert.equal(message, 'could not write file "x": No space left on device');
    assert.ok(setup.sink.isAbandoned);
  });

  test('a connection that ends before the stream has begun', async (t) => {
    const setup = await setUp(t, walsender({ stream: () => {} }));
    setup.server.sessions[0]?.reset();
    assert.equal((await setup.receiver.failed).code, 'connection_lost');
    await assert.rejects(begin(setup), { code: 'connection_lost' });
  });
});
