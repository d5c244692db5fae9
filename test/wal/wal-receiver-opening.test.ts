/* What the receiver asks before the stream, and what it says where it gets no stream. */
import assert from 'node:assert/strict';
import { describe, test, type TestContext } from 'node:test';
import { ConvoyError } from '../../src/errors.js';
import type { SlotChoice } from '../../src/wal/replication-slot.js';
import { COMPLETE, errorMessage, READY, resultSet } from '../support/scripted-server.js';
import { SYSTEM_IDENTIFIER, walsender, type Walsender, type WalsenderScript } from '../support/wal-stream.js';
import { LIMIT, setUp, begin } from './receiver-setup.js';

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
