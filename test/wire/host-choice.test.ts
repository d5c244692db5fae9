/*
 * Several hosts in one connection string: which of them is taken, and what is said where none is. Rules and words are libpq's:
 * the scripted servers say of themselves what PostgreSQL 13 and 14 do.
 */
import assert from 'node:assert/strict';
import { describe, test, type TestContext } from 'node:test';
import { ConvoyError } from '../../src/errors.js';
import { ServerConnection } from '../../src/wire/connection.js';
import { resolveConnection, type ConnectionSettings } from '../../src/wire/conninfo.js';
import {
  COMPLETE,
  errorMessage,
  READY,
  resultSet,
  ScriptedServer,
  welcome,
} from '../support/scripted-server.js';

type Kind = 'primary' | 'standby' | 'read-only primary';

/** A server that reports what it is, as from 14 on, or answers when asked, as 13; a walsender takes SHOW only. */
async function serverThatIs(t: TestContext, kind: Kind, major: 13 | 14 = 14): Promise<ScriptedServer> {
  const inHotStandby = kind === 'standby' ? 'on' : 'off';
  const readOnlyByDefault = kind === 'read-only primary' ? 'on' : 'off';
  const version = { server_version: `${major}.2` };
  const reported = { in_hot_standby: inHotStandby, default_transaction_read_only: readOnlyByDefault };
  const answers = new Map([
    ['SHOW transaction_read_only', kind === 'primary' ? 'off' : 'on'],
    ['SHOW default_transaction_read_only', readOnlyByDefault],
    ['SELECT pg_catalog.pg_is_in_recovery()', kind === 'standby' ? 't' : 'f'],
  ]);
  return await ScriptedServer.listen(t, {
    startup: (session) => session.write(welcome(major === 13 ? version : { ...version, ...reported })),
    query: async (text, session) => {
      assert.equal(major, 13, `a server that has said so is not asked: ${text}`);
      await session.write(resultSet([[answers.get(text) ?? '']]), COMPLETE, READY);
    },
  });
}

function toAll(servers: readonly Pick<ScriptedServer, 'port'>[], more = ''): ConnectionSettings {
  const hosts = servers.map(() => '127.0.0.1').join(',');
  const ports = servers.map(({ port }) => port).join(',');
  return resolveConnection({
    dbname: `host=${hosts} port=${ports} user=u sslmode=disable ${more}`,
    environment: {},
    homeDirectory: '',
    osUser: '',
  });
}

/** @returns the place in the list of the server that was taken */
async function chosen(
  t: TestContext,
  servers: readonly Pick<ScriptedServer, 'port'>[],
  more: string,
  replication = true,
): Promise<number> {
  const connection = await ServerConnection.open(toAll(servers, more), {
    replication,
    applicationName: 'test',
  });
  t.after(() => connection.destroy());
  return servers.findIndex(({ port }) => port === connection.reached.port);
}

async function refusal(servers: readonly Pick<ScriptedServer, 'port'>[], more = ''): Promise<ConvoyError> {
  const outcome: unknown = await ServerConnection.open(toAll(servers, more), {
    replication: true,
    applicationName: 'test',
  }).catch((error: unknown) => error);
  assert.ok(outcome instanceof ConvoyError, 'no server was to be taken');
  return outcome;
}

/** Nobody listens here: port 1 is reserved. */
const NOBODY = { port: 1 };

const CHOICES: readonly (readonly [attrs: string, kinds: readonly Kind[], chosen: number])[] = [
  ['any', ['standby', 'primary'], 0],
  ['primary', ['standby', 'read-only primary', 'primary'], 1],
  ['read-write', ['standby', 'read-only primary', 'primary'], 2],
  ['read-only', ['primary', 'read-only primary', 'standby'], 1],
  ['standby', ['primary', 'standby'], 1],
  ['prefer-standby', ['primary', 'standby'], 1],
  ['prefer-standby', ['primary', 'primary'], 0],
];

for (const major of [13, 14] as const) {
  for (const [attrs, kinds, expected] of CHOICES) {
    const isUnknown = major === 13 && kinds.includes('read-only primary') && attrs === 'primary';
    test(`${attrs} takes ${kinds[expected]} of ${kinds.join(', ')} (PostgreSQL ${major})`, async (t) => {
      const servers = await Promise.all(kinds.map((kind) => serverThatIs(t, kind, major)));
      const all = [NOBODY, ...servers];
      const overSql = await chosen(t, all, `target_session_attrs=${attrs}`, false);
      assert.equal(overSql, expected + 1);
      // a walsender of 13 whose sessions are read-only by default cannot tell that it is none of a standby
      const overReplication = await chosen(t, all, `target_session_attrs=${attrs}`);
      assert.equal(overReplication, isUnknown ? 3 : expected + 1);
    });
  }
}

describe('where no server will do', () => {
  const WORDS: readonly (readonly [string, Kind, string])[] = [
    ['primary', 'standby', 'server is in hot standby mode'],
    ['standby', 'primary', 'server is not in hot standby mode'],
    ['read-write', 'standby', 'session is read-only'],
    ['read-only', 'primary', 'session is not read-only'],
  ];
  for (const [attrs, kind, words] of WORDS) {
    test(`each host is named: ${attrs}`, async (t) => {
      const server = await serverThatIs(t, kind);
      const { code, message } = await refusal([NOBODY, server], `target_session_attrs=${attrs}`);
      assert.equal(code, 'connection_failed');
      assert.deepEqual(message.split('\n'), [
        'connection to server at "127.0.0.1", port 1 failed: Connection refused',
        `connection to server at "127.0.0.1", port ${server.port} failed: ${words}`,
      ]);
    });
  }

  test('a server that is starting up is passed over, one that refuses the client is not', async (t) => {
    const starting = await ScriptedServer.listen(t, {
      startup: (session) =>
        session.write(errorMessage('57P03', 'the database system is starting up', 'FATAL')),
      query: () => {},
    });
    const refusing = await ScriptedServer.listen(t, {
      startup: (session) => session.write(errorMessage('28P01', 'password authentication failed', 'FATAL')),
      query: () => {},
    });
    const primary = await serverThatIs(t, 'primary');
    assert.equal(await chosen(t, [starting, primary], ''), 1);
    const { message, sqlState } = await refusal([starting, refusing, primary]);
    assert.equal(sqlState, '28P01');
    assert.match(message, /starting up\n.*password authentication failed$/);
    assert.equal(primary.sessions.length, 1);
  });
});

test('a random order reaches every host', async (t) => {
  const servers = [await serverThatIs(t, 'primary'), await serverThatIs(t, 'primary')];
  const seen = new Set<number>();
  for (let attempt = 0; attempt < 200 && seen.size < 2; attempt += 1) {
    seen.add(await chosen(t, servers, 'load_balance_hosts=random'));
  }
  assert.equal(seen.size, 2);
});

test('what was reached is one host at one address', async (t) => {
  const askFor = (kind: string) =>
    ScriptedServer.listen(t, {
      startup: (session) => session.write(welcome({ server_version: '14.0', in_hot_standby: kind })),
      query: () => {},
    });
  const servers = [await askFor('off'), await askFor('on')];
  const settings = { ...toAll(servers, 'target_session_attrs=standby'), host: 'localhost' };
  const connection = await ServerConnection.open(
    {
      ...settings,
      otherHosts: (settings.otherHosts ?? []).map((other) => ({ ...other, host: 'localhost' })),
    },
    { applicationName: 'test' },
  );
  t.after(() => connection.destroy());
  const { host, hostaddr, port, otherHosts, targetSessionAttrs } = connection.reached;
  assert.deepEqual(
    { host, hostaddr, port, otherHosts, targetSessionAttrs },
    {
      host: 'localhost',
      hostaddr: '127.0.0.1',
      port: servers[1]?.port,
      otherHosts: undefined,
      targetSessionAttrs: undefined,
    },
  );
});
