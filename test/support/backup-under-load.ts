/*
 * A whole backup of a server that is written to, changed by DDL and checkpointed meanwhile, and the proof that it is right:
 * PostgreSQL's own tools, a start of the result, the rows. Run by the end-to-end tests of every kind of source.
 */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import type { TestContext } from 'node:test';
import type { EmbeddedServer } from '../../src/demo/embedded-server.js';
import { temporaryDirectory } from './cleanup.js';
import { extractArchives, remapTablespaces } from './extracted-archives.js';
import { pgconvoy } from './pgconvoy.js';
import { sql, testServer, type Major } from './postgres.js';
import { checkRestored, startRestored, verifyBackup } from './restored.js';
import { startWorkload } from './workload.js';

export interface LoadScenario {
  readonly major: Major;
  /** Names; one called "inside" lies in the data directory. */
  readonly tablespaces: readonly string[];
  readonly jobs: number;
  readonly extra: readonly string[];
  /** The backup is one of tar archives: `extra` says so. */
  readonly isTar?: boolean;
}

/** Where and as whom to connect. */
export interface Access {
  readonly host: string;
  readonly port: number;
  readonly user: string;
  readonly password: string;
}

/** Sets up a role, or a server half, for the backup. */
export type Connect = (t: TestContext, server: EmbeddedServer) => Promise<Access>;

/** @returns what the backup printed on standard error */
export async function backupUnderLoad(
  t: TestContext,
  scenario: LoadScenario,
  connect: Connect,
): Promise<string> {
  const { major, tablespaces, jobs, extra, isTar = false } = scenario;
  const server = await testServer(t, { major });
  await addData(server);
  const mappings = await addTablespaces(t, server, tablespaces);
  const { host, port, user, password } = await connect(t, server);
  const directory = path.join(await temporaryDirectory(t), 'backup');
  const workload = await startWorkload(server, { tablespaces: [...tablespaces] });
  await workload.waitFor(20);
  const result = await pgconvoy(
    ['backup', '-D', directory, '-h', host, '-p', String(port), '-U', user, '-j', String(jobs)].concat([
      '-c',
      'fast',
      '-r',
      '30M',
      '-v',
      '-P',
      ...(isTar ? [] : mappings),
      ...extra,
    ]),
    { env: { PGPASSWORD: password }, timeoutMs: 60_000 },
  );
  const cycles = workload.ddlCycles();
  assert.equal(result.status, 0, result.stderr);
  assert.ok(cycles > 0, 'DDL ran during the copy');
  const stopLsn = /write-ahead log end point: (\S+)/.exec(result.stderr)?.[1] ?? '';
  const highestCommitted = workload.committedBy(stopLsn);
  await workload.stop();
  assert.ok(highestCommitted > 0);

  const backup = isTar ? await extractArchives(t, directory) : { dir: directory, tablespaces: [] };
  await verifyBackup(t, backup.dir, major);
  const label = await readFile(path.join(backup.dir, 'backup_label'), 'utf8');
  assert.match(label, /^LABEL: pgconvoy base backup$/m);
  if (isTar) await remapTablespaces(backup);
  const restored = await startRestored(t, { ...backup, origin: server });
  await checkRestored(t, restored, { highestCommitted });
  return result.stderr;
}

async function addTablespaces(
  t: TestContext,
  server: EmbeddedServer,
  names: readonly string[],
): Promise<string[]> {
  const mappings: string[] = [];
  for (const name of names) {
    const parent = name === 'inside' ? server.dataDirectory : await temporaryDirectory(t);
    const location = await server.makeDirectory(path.join(parent, name));
    await sql(server, `CREATE TABLESPACE ${name} LOCATION '${location}'`);
    mappings.push('-T', `${location}=${path.join(await temporaryDirectory(t), name)}`);
  }
  return mappings;
}

/** Enough data, slowly enough copied, that the workload has done all its kinds of DDL during the copy. */
async function addData(server: EmbeddedServer): Promise<void> {
  await sql(
    server,
    `CREATE TABLE bulk AS SELECT n, repeat(md5(n::text), 30) AS filler FROM generate_series(1, 40000) n;
     CREATE INDEX ON bulk (n); CREATE UNLOGGED TABLE unlogged_bulk AS SELECT * FROM bulk LIMIT 1000; CHECKPOINT`,
  );
}
