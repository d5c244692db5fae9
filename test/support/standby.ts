/*
 * Standbys for tests: a primary with a standby that streams from it, and the standby that a backup becomes.
 */
import { execFile } from 'node:child_process';
import * as fs from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import { EmbeddedServer } from '../../src/demo/embedded-server.js';
import { cleanup, temporaryDirectory, type TestScope } from './cleanup.js';
import { sql, testServer, type TestServerOptions } from './postgres.js';

const CAUGHT_UP_LIMIT_MS = 60_000;

export interface ReplicatedServers {
  readonly primary: EmbeddedServer;
  readonly standby: EmbeddedServer;
}

/** A new primary and its standby, both running; they go with the test. */
export async function replicatedServers(
  t: TestScope,
  options: Omit<TestServerOptions, 'start'>,
): Promise<ReplicatedServers> {
  const primary = await testServer(t, { ...options, start: false });
  const dataDirectory = path.join(await temporaryDirectory(t), 'standby');
  // a server that has been stopped in order can be copied file by file
  await promisify(execFile)('cp', ['-a', primary.dataDirectory, dataDirectory]);
  await primary.start();
  const standby = await startStandby(t, dataDirectory, primary, options.settings);
  await caughtUp(standby, primary);
  return { primary, standby };
}

/**
 * Starts a standby on a copy of a server's data directory, in place, and returns once it takes connections.
 *
 * @param upstream the server that it streams from
 */
export async function startStandby(
  t: TestScope,
  dataDirectory: string,
  upstream: EmbeddedServer,
  settings: Readonly<Record<string, string>> = {},
): Promise<EmbeddedServer> {
  const { host, port, user, password, binaries } = upstream;
  await fs.writeFile(path.join(dataDirectory, 'standby.signal'), '', { mode: 0o600 });
  const standby = await EmbeddedServer.adopt({
    binaries,
    dataDirectory,
    password,
    settings: {
      primary_conninfo: `host=${host} port=${port} user=${user} password=${password} sslmode=disable`,
      wal_retrieve_retry_interval: '100ms',
      ...settings,
    },
  });
  cleanup(t, () => standby[Symbol.asyncDispose]());
  await standby.start();
  return standby;
}

/** Returns once the standby has replayed what the primary had written at the time of the call. */
export async function caughtUp(standby: EmbeddedServer, primary: EmbeddedServer): Promise<void> {
  const [now] = await sql<{ lsn: string }>(primary, 'SELECT pg_current_wal_flush_lsn() AS lsn');
  for (const limit = Date.now() + CAUGHT_UP_LIMIT_MS; Date.now() < limit; await delay(20)) {
    const [row] = await sql<{ is_there: boolean }>(
      standby,
      'SELECT pg_last_wal_replay_lsn() >= $1 AS is_there',
      [now?.lsn],
    );
    if (row?.is_there === true) return;
  }
  throw new Error(`the standby has not caught up\n${await standby.log()}`);
}
