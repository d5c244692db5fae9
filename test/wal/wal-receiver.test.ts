/*
 * The receiver against a walsender that says what a test tells it to: honest and odd ends, timelines, keepalives, silence,
 * and what no server may send.
 */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { describe, test, type TestContext } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { ConvoyError, type ErrorCode } from '../../src/errors.js';
import type { Lsn } from '../../src/lsn.js';
import type { SlotChoice } from '../../src/wal/replication-slot.js';
import type { WalSink } from '../../src/wal/segment-writer.js';
import { WalReceiver } from '../../src/wal/wal-receiver.js';
import { until } from '../server/test-serve.js';
import { cleanup } from '../support/cleanup.js';
import { ManualClock } from '../support/manual-clock.js';
import {
  COMPLETE,
  COPY_BOTH,
  copyData,
  errorMessage,
  head,
  READY,
  resultSet,
  ScriptedServer,
  type ScriptedSession,
} from '../support/scripted-server.js';
import {
  historyText,
  keepalive,
  sendWal,
  SYSTEM_IDENTIFIER,
  walData,
  walsender,
  type Walsender,
  type WalsenderScript,
} from '../support/wal-stream.js';

const LIMIT = { timeout: 30_000 };
const MiB = 1024 * 1024;
/** In the middle of segment 3 of 1 MiB segments, which begins at START. */
const START_LSN = 0x30_0028n as Lsn;
const START = 0x30_0000n;
const THIRD = '000000010000000000000003';
const FOURTH = '000000010000000000000004';

/** Keeps what it gets in memory. */
class MemorySink implements WalSink {
  readonly files = new Map<string, Buffer>();
  readonly done: string[] = [];
  isAbandoned = false;
  /** What `write` returns. */
  wait: Promise<void> | undefined;
  #name = '';
  #chunks: Buffer[] = [];

  beginSegment(name: string): void {
    assert.equal(this.#name, '');
    this.#name = name;
  }

  write(chunk: Uint8Array): Promise<void> | undefined {
    assert.notEqual(this.#name, '');
    this.#chunks.push(Buffer.from(chunk));
    return this.wait;
  }

  endSegment(isWhole: boolean): void {
    this.files.set(this.#name, Buffer.concat(this.#chunks));
    if (isWhole) this.done.push(this.#name);
    this.#name = '';
    this.#chunks = [];
  }

  writeHistory(name: string, content: Buffer): void {
    this.files.set(name, content);
    this.done.push(name);
  }

  abandon(): void {
    this.isAbandoned = true;
  }
}

interface Setup {
  readonly server: ScriptedServer;
  readonly receiver: WalReceiver;
  readonly sink: MemorySink;
  readonly clock: ManualClock;
}

interface SetupOptions {
  readonly slot?: SlotChoice;
  readonly statusIntervalMs?: number;
  readonly sink?: MemorySink;
}

async function setUp(t: TestContext, script: Walsender, options: SetupOptions = {}): Promise<Setup> {
  const server = await ScriptedServer.listen(t, script);
  const clock = new ManualClock();
  const { slot = { kind: 'none' }, statusIntervalMs = 10_000, sink = new MemorySink() } = options;
  const receiver = await WalReceiver.open(server.settings(), {
    systemIdentifier: SYSTEM_IDENTIFIER,
    segmentBytes: MiB,
    slot,
    statusIntervalMs,
    clock,
    askPassword: undefined,
    signal: undefined,
  });
  cleanup(t, () => receiver.destroy());
  return { server, receiver, sink, clock };
}

function begin({ receiver, sink }: Setup, timeline = 1): Promise<void> {
  return receiver.start({ timeline, lsn: START_LSN }, sink);
}

/** A stream that sends these bytes from START on. */
function sending(bytes: Buffer): WalsenderScript {
  return { stream: (session) => sendWal(session, START, bytes) };
}

describe('an honest walsender', LIMIT, () => {
  test('sends segments that are written whole and marked, from the start of the first one', async (t) => {
    const wal = randomBytes(2 * MiB);
    const setup = await setUp(t, walsender(sending(wal)));
    await begin(setup);
    await setup.receiver.finish({ lsn: (START + 2n * BigInt(MiB)) as Lsn, endsSegment: true });
    const { server, sink, clock } = setup;
    assert.deepEqual(server.queries, ['IDENTIFY_SYSTEM', 'START_REPLICATION 0/300000 TIMELINE 1']);
    assert.deepEqual([...sink.files.keys()], [THIRD, FOURTH]);
    assert.deepEqual(Buffer.concat([...sink.files.values()]), wal);
    assert.deepEqual(sink.done, [THIRD, FOURTH]);
    assert.equal(clock.waiting, 0);
  });

  test('whose segment ends with the backup is waited for to its end', async (t) => {
    const wal = randomBytes(MiB);
    let sendRest = (): Promise<void> => Promise.resolve();
    const script = walsender({
      stream: async (session) => {
        await sendWal(session, START, wal.subarray(0, 5000));
        sendRest = () => sendWal(session, START + 5000n, wal.subarray(5000));
      },
    });
    const setup = await setUp(t, script);
    await begin(setup);
    await until('the first bytes are there', () => setup.receiver.position === START + 5000n);
    const finished = setup.receiver.finish({ lsn: (START + 4000n) as Lsn, endsSegment: true });
    await sendRest();
    await finished;
    assert.deepEqual(setup.sink.files.get(THIRD), wal);
    assert.deepEqual(setup.sink.done, [THIRD]);
  });

  test('on a standby is left at the very end of the backup: what is missing of the segment is zeros', async (t) => {
    const wal = randomBytes(200_000);
    const setup = await setUp(t, walsender(sending(wal)));
    await begin(setup);
    await setup.receiver.finish({ lsn: (START + 150_000n) as Lsn, endsSegment: false });
    const expected = Buffer.alloc(MiB);
    const written = Number(setup.receiver.position - START);
    assert.ok(written >= 150_000 && written <= 200_000);
    wal.copy(expected, 0, 0, written);
    assert.deepEqual(setup.sink.files.get(THIRD), expected);
    assert.deepEqual(setup.sink.done, [], 'it is not whole');
  });

  test('that is far ahead of the end leaves a last segment that is filled with zeros', async (t) => {
    const wal = randomBytes(MiB + 100);
    const setup = await setUp(t, walsender(sending(wal)));
    await begin(setup);
    await until('all is there', () => setup.receiver.position === START + BigInt(wal.length));
    await setup.receiver.finish({ lsn: (START + 100n) as Lsn, endsSegment: true });
    assert.deepEqual(setup.sink.done, [THIRD]);
    const last = setup.sink.files.get(FOURTH);
    assert.deepEqual(last?.subarray(0, 100), wal.subarray(MiB));
    assert.deepEqual(last?.subarray(100), Buffer.alloc(MiB - 100));
  });

  test('switches timelines: the segment of the old one is padded, the new one brings its history', async (t) => {
    const old = randomBytes(3000);
    const wal = randomBytes(MiB);
    const script: Walsender = walsender({
      stream: async (session, command) => {
        if (command.endsWith('TIMELINE 1')) {
          await sendWal(session, START, old);
          await script.endTimeline(session, ['2', '0/300BB8']);
        } else {
          assert.equal(command, 'START_REPLICATION 0/300000 TIMELINE 2');
          await sendWal(session, START, wal);
        }
      },
    });
    const setup = await setUp(t, script);
    await begin(setup);
    await until('the second timeline is there', () => setup.receiver.position === START + BigInt(MiB));
    await setup.receiver.finish({ lsn: (START + 10_000n) as Lsn, endsSegment: true });
    const { files, done } = setup.sink;
    const next = '000000020000000000000003';
    assert.deepEqual([...files.keys()], [THIRD, '00000002.history', next]);
    assert.deepEqual(files.get(THIRD), Buffer.concat([old], MiB));
    assert.equal(files.get('00000002.history')?.toString(), historyText(2));
    assert.deepEqual(files.get(next), wal);
    assert.deepEqual(done, ['00000002.history', next]);
  });

  test('on a later timeline brings its history with the start', async (t) => {
    const setup = await setUp(t, walsender({ ...sending(randomBytes(MiB)), timeline: 3 }));
    await begin(setup, 3);
    await setup.receiver.finish({ lsn: START_LSN, endsSegment: true });
    assert.deepEqual(setup.sink.done, ['00000003.history', '000000030000000000000003']);
  });
});

describe('status updates', LIMIT, () => {
  test('answer a keepalive that asks for one, and say what is written; flushed only with a slot', async (t) => {
    for (const [slot, flushed] of [
      [{ kind: 'none' }, 0n],
      [{ kind: 'temporary' }, START + BigInt(MiB)],
    ] as const) {
      const script = walsender({
        stream: async (session) => {
          await sendWal(session, START, randomBytes(MiB + 500));
          await session.write(copyData(keepalive(START, false)), copyData(keepalive(START, true)));
        },
      });
      const setup = await setUp(t, script, { slot, statusIntervalMs: 0 });
      await begin(setup);
      await until('an update has come', () => script.statuses.length > 0);
      const written = START + BigInt(MiB) + 500n;
      assert.deepEqual(script.statuses, [{ written, flushed, wantsReply: false }]);
    }
  });

  test('come every interval, however much WAL comes meanwhile', async (t) => {
    let session: ScriptedSession | undefined;
    const script = walsender({ stream: (opened) => void (session = opened) });
    const setup = await setUp(t, script, { statusIntervalMs: 5000 });
    await begin(setup);
    let at = START;
    for (let second = 1; second <= 16; second += 1) {
      await session?.write(copyData(walData(at, Buffer.alloc(10))));
      at += 10n;
      await until('it is there', () => setup.receiver.position === at);
      await setup.clock.advance(1000);
    }
    await until('they have come', () => script.statuses.length >= 3);
    assert.equal(script.statuses.length, 3);
    assert.ok(script.statuses.every(({ wantsReply }) => !wantsReply));
  });

  test('never come by themselves where the interval is 0, but for a sign of life', async (t) => {
    let session: ScriptedSession | undefined;
    const script = walsender({
      stream: (opened) => void (session = opened),
      status: (_status, answering) => answering.write(copyData(keepalive(START, false))),
    });
    const setup = await setUp(t, script, { statusIntervalMs: 0 });
    await begin(setup);
    for (let second = 1; second <= 60; second += 1) {
      await session?.write(copyData(walData(START + BigInt(10 * (second - 1)), Buffer.alloc(10))));
      await until('it is there', () => setup.receiver.position === START + BigInt(10 * second));
      await setup.clock.advance(1000);
    }
    assert.deepEqual(script.statuses, []);
  });
});

test('a slow sink holds the stream back, and is not taken for a silent server', LIMIT, async (t) => {
  const total = 32 * MiB;
  const setup = await setUp(t, walsender(sending(Buffer.alloc(total, 'wal'))));
  let release = (): void => {};
  setup.sink.wait = new Promise((resolve) => (release = resolve));
  await begin(setup);
  await until('some is there', () => setup.receiver.position > START);
  await setup.clock.advance(60_000);
  assert.ok(setup.receiver.position < START + BigInt(total / 2), 'the rest is not read');
  setup.sink.wait = undefined;
  release();
  await setup.receiver.finish({ lsn: (START + BigInt(total)) as Lsn, endsSegment: true });
  assert.equal(setup.sink.done.length, total / MiB);
});

describe('a silent walsender', LIMIT, () => {
  test('is asked for a sign of life, and goes on when it gives one', async (t) => {
    const script = walsender({
      stream: () => {},
      status: (_status, session) => session.write(copyData(keepalive(START, false))),
    });
    const setup = await setUp(t, script, { statusIntervalMs: 0 });
    await begin(setup);
    for (let asked = 1; asked <= 3; asked += 1) {
      await setup.clock.advance(2000);
      await until('it has been asked', () => script.statuses.length === asked);
      // the answer is on its way, over a socket that this clock does not move
      for (let turn = 0; turn < 20; turn += 1) await nextTurn();
    }
    assert.ok(script.statuses.every(({ wantsReply }) => wantsReply));
  });

  test('that gives none is given up within ten seconds', async (t) => {
    const setup = await setUp(t, walsender({ stream: () => {} }));
    await begin(setup);
    let failure: ConvoyError | undefined;
    void setup.receiver.failed.then((reason) => (failure = reason));
    await setup.clock.advance(9000);
    assert.equal(failure, undefined);
    await setup.clock.advance(1000);
    const { code, message } = await setup.receiver.failed;
    assert.equal(code, 'connection_lost');
    assert.match(
      message,
      /^could not receive data from WAL stream: lost connection to server at "127\.0\.0\.1", port \d+: no answer for 7\.5 s$/,
    );
    assert.ok(setup.sink.isAbandoned);
    assert.equal(setup.clock.waiting, 0);
  });

  test('that answers but never sends the rest is given up a minute after it should have', async (t) => {
    const script = walsender({
      stream: (session) => sendWal(session, START, randomBytes(100)),
      status: (_status, session) => session.write(copyData(keepalive(START, false))),
    });
    const setup = await setUp(t, script);
    await begin(setup);
    await until('the first bytes are there', () => setup.receiver.position === START + 100n);
    const finished = assert.rejects(setup.receiver.finish({ lsn: START_LSN, endsSegment: true }), {
      code: 'wal_missing',
      message: 'the server has not sent WAL up to 0/400000, only up to 0/300064',
    });
    for (let second = 0; second < 61; second += 1) {
      await setup.clock.advance(1000);
      for (let turn = 0; turn < 20; turn += 1) await nextTurn();
    }
    await finished;
    assert.equal(setup.clock.waiting, 0);
  });
});

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

describe('before the stream', LIMIT, () => {
  async function openingFails(
    t: TestContext,
    script: WalsenderScript,
    slot?: SlotChoice,
  ): Promise<ConvoyError> {
    const failure = await setUp(t, walsender(script), slot === undefined ? {} : { slot }).then(
      () => undefined,
      (error: unknown) => error,
    );
    assert.ok(failure instanceof ConvoyError);
    return failure;
  }

  for (const [name, row, said] of [
    [
      'another cluster',
      ['4711', '1', '0/1', null],
      /^system identifier does not match between base backup and/,
    ],
    ['a timeline that is none', [String(SYSTEM_IDENTIFIER), '0', '0/1', null], /unexpected timeline "0"$/],
    ['nothing', [null, null, null, null], /^system identifier does not match/],
  ] as const) {
    test(`${name} is refused`, async (t) => {
      const { code, message } = await openingFails(t, {
        stream: () => {},
        spoil: async (command, session) => {
          if (command !== 'IDENTIFY_SYSTEM') return false;
          await session.write(resultSet([row]), COMPLETE, READY);
          return true;
        },
      });
      assert.equal(code, 'untrusted_peer');
      assert.match(message, said);
    });
  }

  test('a timeline that the server does not have yet is refused', async (t) => {
    const setup = await setUp(t, walsender({ stream: () => {} }));
    await assert.rejects(begin(setup, 2), { message: 'starting timeline 2 is not present in the server' });
  });

  for (const [slot, commands] of [
    [{ kind: 'none' }, [/^START_REPLICATION 0\/300000 TIMELINE 1$/]],
    [
      { kind: 'temporary' },
      [
        /^CREATE_REPLICATION_SLOT "pgconvoy_[0-9a-f]{16}" TEMPORARY PHYSICAL RESERVE_WAL$/,
        /^START_REPLICATION SLOT "pgconvoy_[0-9a-f]{16}" 0\/300000 TIMELINE 1$/,
      ],
    ],
    [
      { kind: 'named', name: 'mine', create: true },
      [
        /^CREATE_REPLICATION_SLOT "mine" PHYSICAL RESERVE_WAL$/,
        /^START_REPLICATION SLOT "mine" 0\/300000 TIMELINE 1$/,
      ],
    ],
    [
      { kind: 'named', name: 'o"dd', create: false },
      [/^START_REPLICATION SLOT "o""dd" 0\/300000 TIMELINE 1$/],
    ],
  ] as const) {
    test(`the slot is acquired and used: ${JSON.stringify(slot)}`, async (t) => {
      const setup = await setUp(t, walsender({ stream: () => {} }), { slot });
      await begin(setup);
      const [first, ...sent] = setup.server.queries;
      assert.equal(first, 'IDENTIFY_SYSTEM');
      assert.equal(sent.length, commands.length);
      for (const [index, expected] of commands.entries()) assert.match(sent[index] ?? '', expected);
    });
  }

  test('a server without a free slot is told apart', async (t) => {
    const { code, message, hint } = await openingFails(
      t,
      {
        stream: () => {},
        spoil: async (command, session) => {
          if (!command.startsWith('CREATE_REPLICATION_SLOT')) return false;
          await session.write(errorMessage('53400', 'all replication slots are in use'), READY);
          return true;
        },
      },
      { kind: 'temporary' },
    );
    assert.equal(code, 'server_error');
    assert.match(
      message,
      /^could not send replication command "CREATE_REPLICATION_SLOT": ERROR: +all replication slots/,
    );
    assert.match(hint ?? '', /--no-slot$/);
  });

  test('a stream that the server refuses says which command', async (t) => {
    const script = walsender({
      stream: () => {},
      spoil: async (command, session) => {
        if (!command.startsWith('START_REPLICATION')) return false;
        await session.write(errorMessage('42704', 'replication slot "gone" does not exist'), READY);
        return true;
      },
    });
    const setup = await setUp(t, script, { slot: { kind: 'named', name: 'gone', create: false } });
    await assert.rejects(begin(setup), {
      code: 'server_error',
      message:
        'could not send replication command "START_REPLICATION": ERROR:  replication slot "gone" does not exist',
    });
  });

  for (const [sqlState, text, hint] of [
    [
      '42501',
      'must be superuser or replication role to start walsender',
      /^ALTER ROLE "scripted" REPLICATION; .*-X fetch$/,
    ],
    [
      '28000',
      'no pg_hba.conf entry for replication connection',
      /^let pg_hba\.conf allow replication .*-X fetch$/,
    ],
    [
      '53300',
      'number of requested standby connections exceeds max_wal_senders',
      /max_wal_senders.*-X fetch$/,
    ],
  ] as const) {
    test(`a walsender that cannot be had names the remedies: ${sqlState}`, async (t) => {
      const script: Walsender = {
        ...walsender({ stream: () => {} }),
        startup: async (session) => {
          await session.write(errorMessage(sqlState, text, 'FATAL'));
          session.end();
        },
      };
      await assert.rejects(setUp(t, script), (error: unknown) => {
        assert.ok(error instanceof ConvoyError);
        assert.equal(error.code, 'connection_failed');
        assert.match(error.message, new RegExp(`FATAL: +${text}$`));
        assert.match(error.hint ?? '', hint);
        return true;
      });
    });
  }
});
