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
import { extractArchives, remapTablespaces, type ExtractedBackup } from './extracted-archives.js';
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

export interface LoadedServer {
  readonly server: EmbeddedServer;
  /** -T for each tablespace. */
  readonly mappings: readonly string[];
}

/** A server with data enough that the workload has the time for all its kinds of DDL while it is copied. */
export async function loadedServer(
  t: TestContext,
  { major, tablespaces }: Pick<LoadScenario, 'major' | 'tablespaces'>,
): Promise<LoadedServer> {
  const server = await testServer(t, { major });
  await addData(server);
  return { server, mappings: await addTablespaces(t, server, tablespaces) };
}

/** @returns what the backup printed on standard error */
export async function backupUnderLoad(
  t: TestContext,
  scenario: LoadScenario,
  connect: Connect,
): Promise<string> {
  const { tablespaces, extra, isTar = false } = scenario;
  const { server, mappings } = await loadedServer(t, scenario);
  const access = await connect(t, server);
  const workload = await startWorkload(server, { tablespaces: [...tablespaces] });
  await workload.waitFor(20);
  const paced = ['-r', '30M', '-P', ...(isTar ? [] : mappings), ...extra];
  const { backup, output, stopLsn } = await verifiedBackup(t, access, { ...scenario, extra: paced });
  assert.ok(workload.ddlCycles() > 0, 'DDL ran during the copy');
  const highestCommitted = workload.committedBy(stopLsn);
  await workload.stop();
  await checkStarted(t, backup, server, highestCommitted);
  return output;
}

export interface VerifiedBackup {
  readonly backup: ExtractedBackup;
  /** What it printed on standard error. */
  readonly output: string;
  readonly stopLsn: string;
}

/** A backup that pg_verifybackup accepts, unpacked where it is tar archives. */
export async function verifiedBackup(
  t: TestContext,
  { host, port, user, password }: Access,
  { major, jobs, extra, isTar = false }: LoadScenario,
): Promise<VerifiedBackup> {
  const directory = path.join(await temporaryDirectory(t), 'backup');
  const connection = ['-h', host, '-p', String(port), '-U', user, '-j', String(jobs)];
  const result = await pgconvoy(['backup', '-D', directory, ...connection, '-c', 'fast', '-v', ...extra], {
    env: { PGPASSWORD: password },
    timeoutMs: 60_000,
  });
  assert.equal(result.status, 0, result.stderr);
  const backup = isTar ? await extractArchives(t, directory) : { dir: directory, tablespaces: [] };
  await verifyBackup(t, backup.dir, major);
  const label = await readFile(path.join(backup.dir, 'backup_label'), 'utf8');
  assert.match(label, /^LABEL: pgconvoy base backup$/m);
  const stopLsn = /write-ahead log end point: (\S+)/.exec(result.stderr)?.[1] ?? '';
  return { backup, output: result.stderr, stopLsn };
}

/** Starts a backup whose tablespaces are unpacked elsewhere, or mapped, and looks for the rows. */
export async function checkStarted(
  t: TestContext,
  backup: ExtractedBackup,
  origin: EmbeddedServer,
  highestCommitted: number,
): Promise<void> {
  assert.ok(highestCommitted > 0);
  await remapTablespaces(backup);
  await checkRestored(t, await startRestored(t, { ...backup, origin }), { highestCommitted });
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

async function addData(server: EmbeddedServer): Promise<void> {
  await sql(
    server,
    `CREATE TABLE bulk AS SELECT n, repeat(md5(n::text), 30) AS filler FROM generate_series(1, 40000) n;
     CREATE INDEX ON bulk (n); CREATE UNLOGGED TABLE unlogged_bulk AS SELECT * FROM bulk LIMIT 1000; CHECKPOINT`,
  );
}
