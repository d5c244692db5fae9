/* A connection to a server that answers as a test says. */
import assert from 'node:assert/strict';
import type { TestContext } from 'node:test';
import { ConvoyError } from '../../src/errors.js';
import { ServerConnection } from '../../src/wire/connection.js';
import type { OpenOptions } from '../../src/wire/open-options.js';
import { ScriptedServer, type ScriptedSession } from './scripted-server.js';

/** Of a connection that only a test opens. */
export const OPTIONS = { replication: true, applicationName: 'test' };
/** Of a suite: nothing waits for longer. */
export const LIMIT = { timeout: 20_000 };

/** What the server does when it is asked. */
export type Answer = (session: ScriptedSession) => Promise<void> | void;

/** Answers every command with these bytes. */
export function sends(...chunks: readonly Buffer[]): Answer {
  return (session) => session.write(...chunks);
}

/** A connection to a server that answers like this; it ends with the test. */
export async function connectTo(
  t: TestContext,
  answer: Answer,
  options: Partial<OpenOptions> = {},
): Promise<ServerConnection> {
  const server = await ScriptedServer.listen(t, { query: (_text, session) => answer(session) });
  const connection = await ServerConnection.open(server.settings(), { ...OPTIONS, ...options });
  t.after(() => connection.destroy());
  return connection;
}

/** What a promise is rejected with. */
export async function failureOf(promise: Promise<unknown>): Promise<ConvoyError> {
  const outcome = await promise.then(
    () => undefined,
    (error: unknown) => error,
  );
  assert.ok(outcome instanceof ConvoyError, `a ConvoyError, not ${String(outcome)}`);
  return outcome;
}
