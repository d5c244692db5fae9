/*
 * Whole backups through `pgconvoy serve`, of servers that are written to, changed by DDL and checkpointed
 * meanwhile; PostgreSQL's own tools and a start of the result say whether they are right.
 */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { test, type TestContext } from 'node:test';
import type { EmbeddedServer } from '../../src/demo/embedded-server.js';
import { temporaryDirectory } from '../support/cleanup.js';
import { pgconvoy, startServe } from '../support/pgconvoy.js';
import { sql, testServer, type Major } from '../support/postgres.js';
import { checkRestored, startRestored, verifyBackup } from '../support/restored.js';
import { startWorkload } from '../support/workload.js';

interface Scenario {
  readonly major: Major;
  /** Names; one called "inside" lies in the data directory. */
  readonly tablespaces: readonly string[];
  readonly jobs: number;
  readonly extra: readonly string[];
}

const SCENARIOS: readonly Scenario[] = [
  { major: 13, tablespaces: ['ts1'], jobs: 3, extra: [] },
  { major: 13, tablespaces: [], jobs: 1, extra: ['--manifest-checksums', 'SHA256'] },
  { major: 15, tablespaces: ['ts1', 'ts2'], jobs: 4, extra: [] },
  { major: 18, tablespaces: [], jobs: 2, extra: ['--manifest-checksums', 'none'] },
  { major: 18, tablespaces: ['ts1', 'inside'], jobs: 3, extra: [] },
];

async function addTablespaces(
  t: TestContext,
  server: EmbeddedServer,
  names: readonly string[],
): Promise<string[]> {
  const mappings: string[] = [];
  for (const name of names) {
    const location =
      name === 'inside'
        ? await server.makeDirectory(path.join(server.dataDirectory, 'inside'))
        : await server.makeDirectory(path.join(await temporaryDirectory(t), name));
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

for (const scenario of SCENARIOS) {
  const { major, tablespaces, jobs, extra } = scenario;
  const name = `PostgreSQL ${major}, ${tablespaces.length} tablespaces (${tablespaces.join(', ')}), -j ${jobs} ${extra.join(' ')}`;
  test(`a backup taken under load restores: ${name}`, async (t) => {
    const server = await testServer(t, { major });
    await addData(server);
    const mappings = await addTablespaces(t, server, tablespaces);
    await sql(server, `CREATE ROLE backup LOGIN REPLICATION PASSWORD 'copy that'`);
    const serve = await startServe(t, server);
    const directory = path.join(await temporaryDirectory(t), 'backup');
    const workload = await startWorkload(server, { tablespaces: [...tablespaces] });
    await workload.waitFor(20);
    const result = await pgconvoy(
      [
        'backup',
        '-D',
        directory,
        '-h',
        serve.host,
        '-p',
        String(serve.port),
        '-U',
        'backup',
        '-j',
        String(jobs),
      ].concat(['-c', 'fast', '-r', '30M', '-v', '-P', ...mappings, ...extra]),
      { env: { PGPASSWORD: 'copy that' }, timeoutMs: 60_000 },
    );
    const cycles = workload.ddlCycles();
    assert.equal(result.status, 0, result.stderr);
    assert.ok(cycles > 0, 'DDL ran during the copy');
    const stopLsn = /write-ahead log end point: (\S+)/.exec(result.stderr)?.[1] ?? '';
    const highestCommitted = workload.committedBy(stopLsn);
    await workload.stop();
    assert.ok(highestCommitted > 0);

    await verifyBackup(t, directory, major);
    const label = await readFile(path.join(directory, 'backup_label'), 'utf8');
    assert.match(label, /^LABEL: pgconvoy base backup$/m);
    const restored = await startRestored(t, { dir: directory, origin: server });
    await checkRestored(t, restored, { highestCommitted });
  });
}
