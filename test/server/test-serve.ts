/* A `serve` inside the test's process (its session processes are real), in front of a real server. */
import assert from 'node:assert/strict';
import { after } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import type { EmbeddedServer } from '../../src/demo/embedded-server.js';
import { startServe, type RunningServe, type ServeOptions } from '../../src/server/serve.js';
import { resolveConnection, type ConnectionSettings } from '../../src/wire/conninfo.js';
import { cleanup, type TestScope } from '../support/cleanup.js';
import { sql } from '../support/postgres.js';
import { RawClient } from './raw-client.js';

export interface TestServe {
  readonly running: RunningServe;
  readonly port: number;
  /** Lines of its log, as `LEVEL text`. */
  readonly log: readonly string[];
}

/** For what all tests of a file share: cleaned up when the last of them has ended. Called while the file is loaded. */
export function fileScope(): TestScope {
  let hook: (() => Promise<void>) | undefined;
  after(() => hook?.());
  return { after: (step) => (hook = step) };
}

export function settingsOf(server: EmbeddedServer): ConnectionSettings {
  return resolveConnection({ dbname: server.conninfo, environment: {}, homeDirectory: '', osUser: '' });
}

/** A `serve` on a free port of 127.0.0.1, unless told otherwise; the caller stops it. */
export function startListening(
  server: EmbeddedServer,
  options: Partial<ServeOptions>,
): Promise<RunningServe> {
  return startServe({
    dataDirectory: server.dataDirectory,
    connection: settingsOf(server),
    listen: { kind: 'tcp', host: '127.0.0.1', port: 0 },
    tls: undefined,
    allowInsecure: false,
    maxConnections: 50,
    processCount: 2,
    loginTimeoutMs: 20_000,
    log: () => {},
    ...options,
  });
}

/** As startListening(), on TCP; ends with the test. */
export async function testServe(
  t: TestScope,
  server: EmbeddedServer,
  options: Partial<ServeOptions> = {},
): Promise<TestServe> {
  const log: string[] = [];
  const running = await startListening(server, {
    log: (level, text) => log.push(`${level} ${text}`),
    ...options,
  });
  cleanup(t, () => running.stop());
  assert.ok(running.address.kind === 'tcp');
  return { running, port: running.address.port, log };
}

/** A role that may take backups and nothing else. */
export const BACKUP_ROLE = { user: 'backup_role', password: 'right horse' } as const;

export async function createBackupRole(server: EmbeddedServer): Promise<void> {
  const { user, password } = BACKUP_ROLE;
  await sql(server, `CREATE ROLE ${user} LOGIN REPLICATION PASSWORD '${password}'`);
}

/** Logged in as the backup role; its connection ends with the test. */
export async function backupClient(t: TestScope, serve: TestServe): Promise<RawClient> {
  const client = await RawClient.logIn(serve.port, BACKUP_ROLE.user, BACKUP_ROLE.password);
  cleanup(t, () => client.end());
  return client;
}

/** Waits until the condition holds; fails after ten seconds. */
export async function until(what: string, condition: () => Promise<boolean> | boolean): Promise<void> {
  const limit = Date.now() + 10_000;
  while (!(await condition())) {
    assert.ok(Date.now() < limit, `still waiting: ${what}`);
    await delay(20);
  }
}
