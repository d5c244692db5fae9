/*
 * Whole backups under load as tar archives, through both kinds of source and in every compression: unpacked by GNU tar,
 * verified by PostgreSQL itself and started, of the compressed ones each method once.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  backupUnderLoad,
  checkStarted,
  loadedServer,
  verifiedBackup,
  type Connect,
  type LoadScenario,
} from '../support/backup-under-load.js';
import { cleanup } from '../support/cleanup.js';
import { canUnpack } from '../support/extracted-archives.js';
import { startServe } from '../support/pgconvoy.js';
import { sql } from '../support/postgres.js';
import { startWorkload } from '../support/workload.js';

const throughServe: Connect = async (t, server) => {
  await sql(server, `CREATE ROLE backup LOGIN REPLICATION PASSWORD 'copy that'`);
  const { host, port } = await startServe(t, server);
  return { host, port, user: 'backup', password: 'copy that' };
};

const overSql: Connect = (_t, { host, port, user, password }) =>
  Promise.resolve({ host, port, user, password });

const CONNECTIONS = { walsender: throughServe, sql: overSql };

const SCENARIOS: readonly (LoadScenario & { readonly source: keyof typeof CONNECTIONS })[] = [
  { source: 'sql', major: 13, tablespaces: ['ts1'], jobs: 2, extra: [] },
  { source: 'sql', major: 18, tablespaces: ['ts1', 'inside'], jobs: 4, extra: [] },
  { source: 'walsender', major: 13, tablespaces: [], jobs: 3, extra: [] },
  { source: 'walsender', major: 18, tablespaces: ['ts1', 'ts2'], jobs: 3, extra: [] },
];

for (const scenario of SCENARIOS) {
  const { source, major, tablespaces, jobs } = scenario;
  const name = `${source}, PostgreSQL ${major}, tablespaces (${tablespaces.join(', ')}), -j ${jobs}`;
  test(`archives restore: ${name}`, async (t) => {
    const options = { ...scenario, isTar: true, extra: ['-Ft'] };
    const output = await backupUnderLoad(t, options, CONNECTIONS[source]);
    assert.ok(output.includes(`source "${source}"`), output);
  });
}

/** -Z, and how the archives' names end. */
const COMPRESSIONS = [
  ['gzip:1', '.gz'],
  ['lz4', '.lz4'],
  ['client-zstd:5', '.zst'],
] as const;

/** Each method once; the others are verified. */
const STARTED: ReadonlySet<string> = new Set(['13 sql .lz4', '13 walsender .gz', '18 walsender .zst']);

for (const major of [13, 18] as const) {
  test(`compressed archives, PostgreSQL ${major}`, async (t) => {
    const { server } = await loadedServer(t, { major, tablespaces: ['ts1'] });
    const workload = await startWorkload(server, { tablespaces: ['ts1'] });
    cleanup(t, async () => {
      await workload.stop();
    });
    await workload.waitFor(20);
    for (const source of ['sql', 'walsender'] as const) {
      const access = await CONNECTIONS[source](t, server);
      for (const [compression, ending] of COMPRESSIONS) {
        await t.test(`${source}, -Z ${compression}`, async (sub) => {
          if (!(await canUnpack(ending))) return sub.skip(`nothing here unpacks ${ending}`);
          const extra = ['-Ft', '-Z', compression];
          const scenario = { major, tablespaces: ['ts1'], jobs: 2, extra, isTar: true };
          const { backup, output, stopLsn } = await verifiedBackup(sub, access, scenario);
          assert.ok(output.includes(`source "${source}"`), output);
          if (STARTED.has(`${major} ${source} ${ending}`)) {
            await checkStarted(sub, backup, server, workload.committedBy(stopLsn));
          }
        });
      }
    }
  });
}
