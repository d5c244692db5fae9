/*
 * pgconvoy's own backups of the oldest and the newest server, plain and in tar format, verified; and of the newest, whose
 * manifest names the cluster, one that is said to be another's.
 */
import assert from 'node:assert/strict';
import { cpSync } from 'node:fs';
import path from 'node:path';
import { describe, test } from 'node:test';
import { readControlFile } from '../../src/pgdata/control-file.js';
import { temporaryDirectory } from '../support/cleanup.js';
import { pgconvoy } from '../support/pgconvoy.js';
import { sql, testServer } from '../support/postgres.js';
import { startWorkload } from '../support/workload.js';
import { editManifest } from './damaged-backup.js';

const GOOD = { status: 0, stdout: 'backup successfully verified\n', stderr: '' };

describe('backups of a server at work', { concurrency: 2 }, () => {
  for (const major of [13, 18] as const) {
    test(`of version ${major}`, async (t) => {
      const server = await testServer(t, { major });
      const { host, port, user, password, dataDirectory } = server;
      const parent = await temporaryDirectory(t);
      const workload = await startWorkload(server);
      await workload.waitFor(5);
      await sql(server, 'create table bulk as select n, md5(n::text) from generate_series(1, 50000) n');
      for (const [name, options] of [
        ['plain', []],
        ['tar', ['-F', 't', '-Z', 'client-gzip:1']],
      ] as const) {
        const directory = path.join(parent, name);
        const connection = ['-h', host, '-p', String(port), '-U', user, '--source=sql'];
        const taken = await pgconvoy(['backup', '-D', directory, '-c', 'fast', ...connection, ...options], {
          env: { PGPASSWORD: password },
        });
        assert.equal(taken.status, 0, taken.stderr);
        assert.deepEqual(await pgconvoy(['verify', '--page-checksums', directory]), GOOD);
      }
      await workload.stop();
      if (major < 17) return;
      const foreign = path.join(parent, 'foreign');
      cpSync(path.join(parent, 'plain'), foreign, { recursive: true });
      editManifest(foreign, (lines) => lines.replace(/("System-Identifier": )\d+/, '$11'));
      const { systemIdentifier } = await readControlFile(dataDirectory);
      const { status, stderr } = await pgconvoy(['verify', foreign]);
      assert.deepEqual(
        stderr.split('\n').toSorted(),
        [
          '',
          `pgconvoy: error: ${foreign}/global/pg_control: manifest system identifier is 1, but control file has ${systemIdentifier}`,
          'pgconvoy: error: WAL parsing failed for timeline 1: WAL file is from different database system: ' +
            `WAL file database system identifier is ${systemIdentifier}, pg_control database system identifier is 1`,
        ].toSorted(),
      );
      assert.equal(status, 1);
    });
  }
});
