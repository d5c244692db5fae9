/* Whole backups under load through `pgconvoy serve`, over the parallel backup commands. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { backupUnderLoad, type Connect, type LoadScenario } from '../support/backup-under-load.js';
import { startServe } from '../support/pgconvoy.js';
import { sql } from '../support/postgres.js';

const SCENARIOS: readonly LoadScenario[] = [
  { major: 13, tablespaces: ['ts1'], jobs: 3, extra: [] },
  { major: 13, tablespaces: [], jobs: 1, extra: ['--manifest-checksums', 'SHA256'] },
  { major: 15, tablespaces: ['ts1', 'ts2'], jobs: 4, extra: [] },
  { major: 18, tablespaces: [], jobs: 2, extra: ['--manifest-checksums', 'none'] },
  { major: 18, tablespaces: ['ts1', 'inside'], jobs: 3, extra: [] },
];

const throughServe: Connect = async (t, server) => {
  await sql(server, `CREATE ROLE backup LOGIN REPLICATION PASSWORD 'copy that'`);
  const { host, port } = await startServe(t, server);
  return { host, port, user: 'backup', password: 'copy that' };
};

for (const scenario of SCENARIOS) {
  const { major, tablespaces, jobs, extra } = scenario;
  const where = `${tablespaces.length} tablespaces (${tablespaces.join(', ')})`;
  test(`a backup through serve restores: PostgreSQL ${major}, ${where}, -j ${jobs} ${extra.join(' ')}`, async (t) => {
    const output = await backupUnderLoad(t, scenario, throughServe);
    assert.match(output, /source "walsender"/);
  });
}
