/*
 * Whole backups under load of stock servers over plain SQL: every supported release, as superuser and as a role that has
 * nothing but the grants that `pgconvoy check` prints.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { backupUnderLoad, type Connect, type LoadScenario } from '../support/backup-under-load.js';
import { pgconvoy } from '../support/pgconvoy.js';
import { sql } from '../support/postgres.js';

const asSuperuser: Connect = (_t, { host, port, user, password }) =>
  Promise.resolve({ host, port, user, password });

/** Runs the printed script, but for what it calls optional. */
const asLeastPrivileged: Connect = async (_t, server) => {
  const { host, port, user, password } = server;
  await sql(server, `CREATE ROLE "Backup" LOGIN PASSWORD 'copy that'`);
  const printed = await pgconvoy(
    ['check', '-h', host, '-p', String(port), '-U', user, '--print-grants', 'Backup'],
    { env: { PGPASSWORD: password } },
  );
  assert.equal(printed.status, 0, printed.stderr);
  const [needed = ''] = printed.stdout.split('-- optional');
  assert.match(needed, /GRANT EXECUTE/);
  await sql(server, needed);
  // no slot may hold the WAL, and the workload's checkpoints would recycle it where the copy takes long
  await sql(server, `ALTER SYSTEM SET wal_keep_size = '16GB'`);
  await sql(server, 'SELECT pg_reload_conf()');
  return { host, port, user: 'Backup', password: 'copy that' };
};

const SCENARIOS: readonly (LoadScenario & { readonly connect: Connect; readonly role: string })[] = [
  { major: 13, tablespaces: ['ts1'], jobs: 3, extra: [], connect: asSuperuser, role: 'superuser' },
  { major: 13, tablespaces: [], jobs: 2, extra: [], connect: asLeastPrivileged, role: 'least privileged' },
  { major: 14, tablespaces: [], jobs: 2, extra: [], connect: asSuperuser, role: 'superuser' },
  {
    major: 14,
    tablespaces: ['ts1'],
    jobs: 2,
    extra: [],
    connect: asLeastPrivileged,
    role: 'least privileged',
  },
  { major: 15, tablespaces: ['ts1', 'inside'], jobs: 4, extra: [], connect: asSuperuser, role: 'superuser' },
  {
    major: 15,
    tablespaces: ['inside'],
    jobs: 2,
    extra: [],
    connect: asLeastPrivileged,
    role: 'least privileged',
  },
  { major: 16, tablespaces: [], jobs: 1, extra: [], connect: asSuperuser, role: 'superuser' },
  { major: 16, tablespaces: [], jobs: 3, extra: [], connect: asLeastPrivileged, role: 'least privileged' },
  { major: 17, tablespaces: ['ts1'], jobs: 2, extra: [], connect: asSuperuser, role: 'superuser' },
  {
    major: 17,
    tablespaces: [],
    jobs: 2,
    extra: ['--manifest-checksums', 'SHA512'],
    connect: asLeastPrivileged,
    role: 'least privileged',
  },
  { major: 18, tablespaces: ['ts1', 'ts2'], jobs: 8, extra: [], connect: asSuperuser, role: 'superuser' },
  {
    major: 18,
    tablespaces: ['ts1'],
    jobs: 2,
    extra: [],
    connect: asLeastPrivileged,
    role: 'least privileged',
  },
];

for (const scenario of SCENARIOS) {
  const { major, tablespaces, jobs, extra, role } = scenario;
  const where = `tablespaces (${tablespaces.join(', ')})`;
  test(`a backup over SQL restores: PostgreSQL ${major}, ${role}, ${where}, -j ${jobs} ${extra.join(' ')}`, async (t) => {
    // a role without REPLICATION cannot stream
    const wal = role === 'superuser' ? [] : ['-X', 'fetch'];
    const output = await backupUnderLoad(t, { ...scenario, extra: [...extra, ...wal] }, scenario.connect);
    assert.match(output, /source "sql"/);
  });
}
