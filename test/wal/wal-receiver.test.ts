/* The receiver against a walsender that says what a test tells it to: honest and odd ends, timelines, keepalives, silence. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { describe, test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { ConvoyError } from '../../src/errors.js';
import type { Lsn } from '../../src/lsn.js';
import { until } from '../server/test-serve.js';
import { copyData, type ScriptedSession } from '../support/scripted-server.js';
import {
  historyText,
  keepalive,
  sendWal,
  walData,
  walsender,
  type Walsender,
} from '../support/wal-stream.js';
import { LIMIT, MiB, START_LSN, START, THIRD, FOURTH, setUp, begin, sending } from './receiver-setup.js';

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
