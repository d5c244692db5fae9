/*
 * pgconvoy's own backups of the oldest and the newest server, plain and in tar format, verified; and of the newest, whose
 * manifest names the cluster, what is said where that or pg_control is wrong, in the words of pg_verifybackup 18.
 */
import assert from 'node:assert/strict';
import { cpSync, rmSync, truncateSync } from 'node:fs';
import path from 'node:path';
import { describe, test } from 'node:test';
import { readControlFile } from '../../src/pgdata/control-file.js';
import { temporaryDirectory } from '../support/cleanup.js';
import { pgconvoy } from '../support/pgconvoy.js';
import { sql, testServer } from '../support/postgres.js';
import { startWorkload } from '../support/workload.js';
import { editManifest, flip } from './damaged-backup.js';

/** How a backup can be of another cluster than its manifest says; SYSTEM is the identifier in pg_control. */
interface ClusterDamage {
  readonly format: 'plain' | 'tar';
  readonly mutilate: (directory: string) => void;
  readonly says: (directory: string) => readonly string[];
}

const CONTROL_FILE = 'global/pg_control';

const CLUSTER_DAMAGES: readonly ClusterDamage[] = [
  {
    format: 'plain',
    mutilate: (directory) =>
      editManifest(directory, (lines) => lines.replace(/("System-Identifier": )\d+/, '$11')),
    says: (directory) => [
      `${directory}/${CONTROL_FILE}: manifest system identifier is 1, but control file has SYSTEM`,
      'WAL parsing failed for timeline 1: WAL file is from different database system: ' +
        'WAL file database system identifier is SYSTEM, pg_control database system identifier is 1',
    ],
  },
  {
    format: 'plain',
    mutilate: leaveOutSystemIdentifier,
    says: (directory) => [
      `${directory}/${CONTROL_FILE}: manifest system identifier is 0, but control file has SYSTEM`,
    ],
  },
  {
    format: 'tar',
    mutilate: leaveOutSystemIdentifier,
    says: () => [
      `base.tar.gz: ${CONTROL_FILE}: manifest system identifier is 0, but control file has SYSTEM`,
    ],
  },
  {
    format: 'plain',
    mutilate: (directory) => flip(path.join(directory, CONTROL_FILE), 100),
    says: (directory) => [`${directory}/${CONTROL_FILE}: CRC is incorrect`],
  },
  {
    format: 'plain',
    mutilate: (directory) => truncateSync(path.join(directory, CONTROL_FILE), 100),
    says: (directory) => [
      `"${CONTROL_FILE}" has size 100 on disk but size 8192 in the manifest`,
      `could not read file "${directory}/${CONTROL_FILE}": read 100 of 296`,
    ],
  },
  {
    format: 'plain',
    mutilate: (directory) => truncateSync(path.join(directory, CONTROL_FILE), 512),
    says: () => [`"${CONTROL_FILE}" has size 512 on disk but size 8192 in the manifest`],
  },
];

function leaveOutSystemIdentifier(directory: string): void {
  editManifest(directory, (lines) => lines.replace(/"System-Identifier": \d+,\n/, ''));
}

async function checkDamage(
  parent: string,
  { format, mutilate, says }: ClusterDamage,
  systemIdentifier: string,
): Promise<void> {
  const copy = path.join(parent, 'copy');
  cpSync(path.join(parent, format), copy, { recursive: true });
  mutilate(copy);
  const { status, stderr } = await pgconvoy(['verify', copy]);
  const expected = says(copy).map((line) => `pgconvoy: error: ${line.replace('SYSTEM', systemIdentifier)}`);
  assert.deepEqual(stderr.split('\n').toSorted(), ['', ...expected].toSorted());
  assert.equal(status, 1);
  rmSync(copy, { recursive: true });
}

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
      const { systemIdentifier } = await readControlFile(dataDirectory);
      for (const damage of CLUSTER_DAMAGES) await checkDamage(parent, damage, String(systemIdentifier));
    });
  }
});
