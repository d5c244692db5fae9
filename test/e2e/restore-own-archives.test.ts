/*
 * What pgconvoy itself writes as tar comes back as a cluster: from the oldest and the newest server, in every compression
 * with a tablespace elsewhere and one that lies in the data directory.
 */
import assert from 'node:assert/strict';
import * as fs from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { temporaryDirectory } from '../support/cleanup.js';
import { pgconvoy } from '../support/pgconvoy.js';
import { connect, sql, testServer, type Major } from '../support/postgres.js';
import { startRestored, verifyBackup } from '../support/restored.js';

/** The compressions of one version, the last of which is started. */
const CASES = [
  [
    13,
    [
      ['none', '.tar'],
      ['gzip', '.tar.gz'],
    ],
  ],
  [
    18,
    [
      ['lz4', '.tar.lz4'],
      ['zstd', '.tar.zst'],
    ],
  ],
] as const satisfies readonly (readonly [Major, readonly (readonly [string, string])[]])[];

for (const [major, compressions] of CASES) {
  test(`archives of PostgreSQL ${major}`, async (t) => {
    const server = await testServer(t, { major });
    const parent = await temporaryDirectory(t);
    const place = await server.makeDirectory(path.join(parent, 'place'));
    await sql(server, `CREATE TABLESPACE elsewhere LOCATION '${place}'`);
    await sql(server, 'CREATE TABLE here AS SELECT generate_series(1, 500) AS n');
    await sql(server, 'CREATE TABLE far TABLESPACE elsewhere AS SELECT generate_series(1, 300) AS n');
    const hasInside = major >= 15;
    if (hasInside) {
      const client = await connect(server);
      await client.query('SET allow_in_place_tablespaces = on');
      await client.query("CREATE TABLESPACE inside LOCATION ''");
      await client.query('CREATE TABLE near TABLESPACE inside AS SELECT generate_series(1, 100) AS n');
      await client.end();
    }
    const { host, port, user, password } = server;
    const connection = ['-h', host, '-p', String(port), '-U', user, '-c', 'fast', '-N'];
    for (const [method, ending] of compressions) {
      const backup = path.join(parent, method);
      const made = await pgconvoy(['backup', '-D', backup, '-F', 't', '-Z', method, ...connection], {
        env: { PGPASSWORD: password },
      });
      assert.equal(made.status, 0, made.stderr);
      assert.ok((await fs.readdir(backup)).includes(`base${ending}`));
      const directory = path.join(parent, `restored-${method}`);
      const space = path.join(parent, `space-${method}`);
      for (const there of [directory, space]) {
        await fs.mkdir(there);
        await fs.chmod(there, 0o755);
      }
      const result = await pgconvoy(['restore', backup, '-D', directory, '-T', `${place}=${space}`]);
      assert.equal(result.status, 0, result.stderr);
      for (const there of [directory, space]) assert.equal((await fs.stat(there)).mode & 0o777, 0o700);
      await verifyBackup(t, directory, major);
      if (method !== compressions[1][0]) continue;
      const restored = await startRestored(t, {
        dir: directory,
        origin: server,
        tablespaces: [space],
        // recovery asks for it, too
        ...(hasInside ? { settings: { allow_in_place_tablespaces: 'on' } } : {}),
      });
      const count = async (table: string): Promise<unknown> =>
        (await sql<{ rows: number }>(restored, `SELECT count(*)::int AS rows FROM ${table}`))[0]?.rows;
      assert.deepEqual([await count('here'), await count('far')], [500, 300]);
      if (hasInside) assert.equal(await count('near'), 100);
    }
  });
}
