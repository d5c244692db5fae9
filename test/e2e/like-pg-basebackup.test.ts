/*
 * pgconvoy's backup of an idle server beside pg_basebackup's: the same files, links, permissions and bytes, the same
 * manifest, but for what differs between any two backups.
 */
import assert from 'node:assert/strict';
import * as fs from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { cleanup, temporaryDirectory } from '../support/cleanup.js';
import { readTree, type TreeEntry } from '../support/directory-tree.js';
import { sql } from '../support/postgres.js';
import { requireTool, run } from '../support/tools.js';
import { setStage, takeBackup, type Stage } from './stage.js';

/** Their bytes tell one backup from another. */
const OWN_BYTES: ReadonlySet<string> = new Set(['backup_label', 'backup_manifest', 'global/pg_control']);

/** Each checkpoint writes it anew, with the same bytes. */
const REWRITTEN = 'pg_logical/replorigin_checkpoint';

interface ManifestEntry {
  readonly Path: string;
  readonly 'Last-Modified': string;
}

async function addOddities({ server }: Stage): Promise<void> {
  const { dataDirectory, account } = server;
  const scripts = path.join(dataDirectory, 'scripts');
  await fs.mkdir(scripts, { mode: 0o755 });
  await fs.mkdir(path.join(scripts, 'nothing in here'));
  await fs.chmod(scripts, 0o755);
  for (const [name, mode] of [
    ['archive.sh', 0o755],
    ['read only', 0o400],
    ['ünïcödé "quoted"', 0o640],
  ] as const) {
    const file = path.join(scripts, name);
    await fs.writeFile(file, name);
    await fs.chmod(file, mode);
  }
  if (account !== undefined) {
    for (const entry of ['.', ...(await fs.readdir(scripts))]) {
      await fs.chown(path.join(scripts, entry), account.uid, account.gid);
    }
  }
}

async function readManifest(directory: string): Promise<Map<string, ManifestEntry>> {
  const text = await fs.readFile(path.join(directory, 'backup_manifest'), 'utf8');
  const { Files } = JSON.parse(text) as { readonly Files: readonly ManifestEntry[] };
  return new Map(Files.map((entry) => [entry.Path, entry]));
}

/** Without what tells two backups apart: their own files' bytes, and the names of the WAL segments that they ended in. */
function comparable(tree: ReadonlyMap<string, TreeEntry>): Record<string, TreeEntry> {
  return Object.fromEntries(
    [...tree].map(([name, entry]) => {
      const isWal = name.startsWith('pg_wal/') && entry.type === 'file';
      const shownName = isWal ? name.replace(/[0-9A-F]{24}/, 'SEGMENT') : name;
      return [shownName, isWal || OWN_BYTES.has(name) ? { ...entry, content: '' } : entry];
    }),
  );
}

function comparableManifest(manifest: ReadonlyMap<string, ManifestEntry>): Record<string, object> {
  return Object.fromEntries(
    [...manifest].map(([name, entry]) => {
      const isOwn = OWN_BYTES.has(name) || name.startsWith('pg_wal/');
      const { Path, ...rest } = name === REWRITTEN ? { ...entry, 'Last-Modified': '' } : entry;
      return [Path.replace(/[0-9A-F]{24}/, 'SEGMENT'), isOwn ? {} : rest];
    }),
  );
}

for (const initdbArguments of [[], ['--allow-group-access']]) {
  const kind = initdbArguments.length === 0 ? 'for its owner alone' : 'that its group may read';
  test(`a backup of a cluster ${kind} is what pg_basebackup makes of it`, async (t) => {
    const command = requireTool(t, 'pg_basebackup');
    if (command === undefined) return;
    const stage = await setStage(t, { initdbArguments, settings: { autovacuum: 'off' } });
    const { server, serve } = stage;
    const place = await server.makeDirectory(path.join(await temporaryDirectory(t), 'space'));
    await sql(server, `CREATE TABLESPACE space LOCATION '${place}'`);
    await sql(server, 'CREATE TABLE far TABLESPACE space AS SELECT n FROM generate_series(1, 1000) n');
    await sql(
      server,
      'CREATE UNLOGGED TABLE passing TABLESPACE space AS SELECT n FROM generate_series(1, 1000) n',
    );
    await addOddities(stage);
    const umask = process.umask(0o027);
    cleanup(t, () => void process.umask(umask));

    for (const wal of ['fetch', 'none'] as const) {
      const root = await temporaryDirectory(t);
      const options = (who: string): string[] => [
        '-X',
        wal,
        '-T',
        `${place}=${path.join(root, who, 'space')}`,
      ];
      for (const who of ['theirs', 'ours']) await fs.mkdir(path.join(root, who));
      const flags = ['-D', path.join(root, 'theirs', 'data'), '-d', server.conninfo, '-c', 'fast', '-N'];
      const theirs = await run(command, [...flags, ...options('theirs')]);
      assert.equal(theirs.status, 0, theirs.stderr);
      const ours = await takeBackup(serve, path.join(root, 'ours', 'data'), options('ours'));
      assert.equal(ours.status, 0, ours.stderr);

      for (const part of ['data', 'space']) {
        const [expected, actual] = await Promise.all(
          ['theirs', 'ours'].map(async (who) => {
            const tree = await readTree(path.join(root, who, part));
            return [...tree].map(([name, entry]) => {
              const content =
                entry.type === 'link' ? path.relative(path.join(root, who), entry.content) : entry.content;
              return [name, { ...entry, content }] as const;
            });
          }),
        );
        assert.deepEqual(comparable(new Map(actual)), comparable(new Map(expected)), part);
      }
      const [expected, actual] = await Promise.all(
        ['theirs', 'ours'].map((who) => readManifest(path.join(root, who, 'data'))),
      );
      assert.deepEqual(
        comparableManifest(actual ?? new Map()),
        comparableManifest(expected ?? new Map()),
        wal,
      );
    }
  });
}
