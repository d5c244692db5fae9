/*
 * A backup that is told of several servers finds the right one by itself, and stays with it: connection strings with several
 * hosts, IPv6, Unix-domain sockets, and what leads to several servers at one address.
 */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { before, test, type TestContext } from 'node:test';
import { fileScope } from '../server/test-serve.js';
import { FaultyProxy } from '../support/faulty-proxy.js';
import { pgconvoy, startServe, type Serve } from '../support/pgconvoy.js';
import { sql, type Major } from '../support/postgres.js';
import { verifyBackup } from '../support/restored.js';
import { caughtUp, replicatedServers, type ReplicatedServers } from '../support/standby.js';
import type { RunResult } from '../support/tools.js';
import { assertAbsent, assertFailed, newTarget, type Address } from './stage.js';

const PASSWORD = 'copy that';

interface Servers extends ReplicatedServers {
  readonly primaryServe: Serve;
  readonly standbyServe: Serve;
}

const scope = fileScope();
const stages = new Map<Major, Servers>();
before(async () => {
  for (const major of [13, 15] as const) {
    const servers = await replicatedServers(scope, { major });
    const { primary, standby } = servers;
    await sql(primary, `CREATE ROLE backup SUPERUSER LOGIN REPLICATION PASSWORD '${PASSWORD}'`);
    await caughtUp(standby, primary);
    const primaryServe = await startServe(scope, primary);
    stages.set(major, { ...servers, primaryServe, standbyServe: await startServe(scope, standby) });
  }
});

function stageOf(major: Major): Servers {
  const servers = stages.get(major);
  assert.ok(servers !== undefined);
  return servers;
}

function list(...servers: readonly Address[]): string {
  return `host=${servers.map(({ host }) => host).join(',')} port=${servers.map(({ port }) => port).join(',')}`;
}

function take(target: string, args: readonly string[]): Promise<RunResult> {
  return pgconvoy(['backup', '-D', target, '-c', 'fast', '-N', '-w', '-X', 'none', '-j', '2', ...args], {
    env: { PGUSER: 'backup', PGPASSWORD: PASSWORD, PGSSLMODE: 'disable' },
    timeoutMs: 60_000,
  });
}

async function backedUpFrom(t: TestContext, major: Major, args: readonly string[]): Promise<string> {
  const target = await newTarget(t);
  const result = await take(target, args);
  assert.equal(result.status, 0, result.stderr);
  // without the WAL, which pg_verifybackup 15 would look for in a backup of 15
  await verifyBackup(t, target, major === 15 ? 14 : major);
  return /^BACKUP FROM: (.*)$/m.exec(await readFile(`${target}/backup_label`, 'utf8'))?.[1] ?? '';
}

const NOBODY = { host: '127.0.0.1', port: 1 };

for (const major of [13, 15] as const) {
  for (const source of ['sql', 'walsender'] as const) {
    test(`the standby, or the primary, is found by ${source}: PostgreSQL ${major}`, async (t) => {
      const { primary, standby, primaryServe, standbyServe } = stageOf(major);
      const [first, second] = source === 'sql' ? [primary, standby] : [primaryServe, standbyServe];
      const all = `${list(NOBODY, first, second)} target_session_attrs=`;
      const from = (attrs: string): Promise<string> =>
        backedUpFrom(t, major, [`--source=${source}`, '-d', all + attrs]);
      assert.equal(await from('prefer-standby'), 'standby');
      assert.equal(await from('read-write'), major === 13 ? 'master' : 'primary');
    });
  }
}

test('where no server is what was asked for, each one is named', async (t) => {
  const { primary } = stageOf(15);
  const target = await newTarget(t);
  const { status, stderr } = await take(target, [
    '-d',
    `${list(NOBODY, primary)} target_session_attrs=standby`,
  ]);
  assert.equal(status, 1);
  assert.deepEqual(stderr.split('\n').slice(0, 2), [
    'pgconvoy: error: connection to server at "127.0.0.1", port 1 failed: Connection refused',
    `connection to server at "127.0.0.1", port ${primary.port} failed: server is not in hot standby mode`,
  ]);
  await assertAbsent(target);
});

test('a Unix-domain socket and PGHOST lead to a server as well', async (t) => {
  const { standby } = stageOf(15);
  const target = await newTarget(t);
  const result = await pgconvoy(['backup', '-D', target, '--source=sql', '-N', '-X', 'none', '-j', '2'], {
    env: {
      PGHOST: `/nonexistent,${standby.socketDirectory}`,
      PGPORT: String(standby.port),
      PGTARGETSESSIONATTRS: 'standby',
      PGUSER: 'backup',
      PGPASSWORD: PASSWORD,
    },
  });
  assert.equal(result.status, 0, result.stderr);
});

test('IPv6 addresses are understood on both sides', async (t) => {
  const { primary } = stageOf(15);
  const serve = await startServe(t, primary, ['--listen', '[::1]:0']);
  assert.equal(serve.host, '::1');
  const port = String(serve.port);
  for (const args of [
    ['-h', '::1', '-p', port],
    ['-d', `postgresql://[::1]:${port}/`],
  ]) {
    assert.equal(await backedUpFrom(t, 15, ['--source=walsender', ...args]), 'primary');
  }
});

for (const source of ['sql', 'walsender'] as const) {
  test(`connections that lead to another server than the first are refused: ${source}`, async (t) => {
    const { primary, standby, primaryServe, standbyServe } = stageOf(15);
    const [first, second] = source === 'sql' ? [primary, standby] : [primaryServe, standbyServe];
    // one address, and another server for every connection but the first
    const balancer = await FaultyProxy.start(t, (index) => (index === 0 ? first : second));
    const target = await newTarget(t);
    const result = await take(target, [
      `--source=${source}`,
      '-h',
      balancer.host,
      '-p',
      String(balancer.port),
    ]);
    assertFailed(result, {
      error:
        /^server at "127\.0\.0\.1", port \d+ is not the one that the backup was started on: system identifier (\d+), started ([-0-9:. ]+ UTC) instead of system identifier \1, started (?!\2)[-0-9:. ]+ UTC$/,
      hint: /hostaddr/,
    });
    await assertAbsent(target);
  });
}
