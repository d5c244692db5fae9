/*
 * Whole backups under load as tar archives, through both kinds of source: unpacked by GNU tar, verified and started by
 * PostgreSQL itself.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { backupUnderLoad, type Connect, type LoadScenario } from '../support/backup-under-load.js';
import { canUnpack } from '../support/extracted-archives.js';
import { startServe } from '../support/pgconvoy.js';
import { sql } from '../support/postgres.js';

const throughServe: Connect = async (t, server) => {
  await sql(server, `CREATE ROLE backup LOGIN REPLICATION PASSWORD 'copy that'`);
  const { host, port } = await startServe(t, server);
  return { host, port, user: 'backup', password: 'copy that' };
};

const overSql: Connect = (_t, { host, port, user, password }) =>
  Promise.resolve({ host, port, user, password });

const CONNECTIONS = { walsender: throughServe, sql: overSql };

interface Scenario extends LoadScenario {
  readonly source: keyof typeof CONNECTIONS;
  /** How the archives' names end. */
  readonly ending: '.tar' | '.gz' | '.lz4' | '.zst';
}

const SCENARIOS: readonly Scenario[] = [
  { source: 'sql', major: 13, tablespaces: ['ts1'], jobs: 2, extra: [], ending: '.tar' },
  { source: 'sql', major: 18, tablespaces: ['ts1', 'inside'], jobs: 4, extra: [], ending: '.tar' },
  { source: 'walsender', major: 13, tablespaces: [], jobs: 3, extra: [], ending: '.tar' },
  { source: 'walsender', major: 18, tablespaces: ['ts1', 'ts2'], jobs: 3, extra: [], ending: '.tar' },
  { source: 'sql', major: 13, tablespaces: [], jobs: 2, extra: ['-Z', 'lz4'], ending: '.lz4' },
  { source: 'sql', major: 18, tablespaces: ['ts1'], jobs: 3, extra: ['-z'], ending: '.gz' },
  { source: 'walsender', major: 13, tablespaces: ['ts1'], jobs: 2, extra: ['-Z', 'gzip:1'], ending: '.gz' },
  {
    source: 'walsender',
    major: 18,
    tablespaces: ['ts1'],
    jobs: 2,
    extra: ['-Z', 'client-zstd:5'],
    ending: '.zst',
  },
];

for (const scenario of SCENARIOS) {
  const { source, major, tablespaces, jobs, extra, ending } = scenario;
  const how = ['-Ft', ...extra].join(' ');
  const name = `${source}, PostgreSQL ${major}, tablespaces (${tablespaces.join(', ')}), -j ${jobs} ${how}`;
  test(`archives restore: ${name}`, async (t) => {
    if (!(await canUnpack(ending))) return t.skip(`nothing here unpacks ${ending}`);
    const options = { ...scenario, isTar: true, extra: ['-Ft', ...extra] };
    const output = await backupUnderLoad(t, options, CONNECTIONS[source]);
    assert.ok(output.includes(`source "${source}"`), output);
  });
}
