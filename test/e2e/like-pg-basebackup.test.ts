/*
 * pgconvoy's backups of an idle server, over the parallel commands and over SQL, beside pg_basebackup's: the same files,
 * links, permissions and bytes, the same manifest, but for what differs between any two backups. Over SQL permissions are
 * those that the data directory has, since no function tells the others.
 */
import assert from 'node:assert/strict';
import * as fs from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { cleanup, temporaryDirectory } from '../support/cleanup.js';
import { readTree, type TreeEntry } from '../support/directory-tree.js';
import { connect, sql } from '../support/postgres.js';
import { requireTool, run } from '../support/tools.js';
import { setStage, takeBackup, type Stage } from './stage.js';

/** Their bytes tell one backup from another. */
const OWN_BYTES: ReadonlySet<string> = new Set(['backup_label', 'backup_manifest', 'global/pg_control']);

/** pg_basebackup stops streaming wherever the end of the backup finds it, in the middle of the segment or after it. */
const SEGMENT_MARK = 'pg_wal/archive_status/SEGMENT.done';

/** Each checkpoint writes it anew, with the same bytes. */
const REWRITTEN = 'pg_logical/replorigin_checkpoint';

const SOURCES = ['walsender', 'sql'] as const;

interface ManifestEntry {
  readonly Path: string;
  readonly 'Last-Modified': string;
}

/** A tablespace that is a directory in pg_tblspc. */
async function addInPlaceTablespace({ server }: Stage): Promise<void> {
  const client = await connect(server);
  await client.query('SET allow_in_place_tablespaces = on');
  await client.query("CREATE TABLESPACE in_place LOCATION ''");
  await client.query('CREATE TABLE near TABLESPACE in_place AS SELECT n FROM generate_series(1, 1000) n');
  await client.query(
    'CREATE UNLOGGED TABLE near_by TABLESPACE in_place AS SELECT n FROM generate_series(1, 9) n',
  );
  await client.end();
}

/** With the permissions that a backup over SQL gives. */
function withModesOf(directoryMode: number, tree: Record<string, TreeEntry>): Record<string, TreeEntry> {
  const modes = { file: directoryMode & 0o666, directory: directoryMode, link: 0o777 };
  return Object.fromEntries(
    Object.entries(tree).map(([name, entry]) => [name, { ...entry, mode: modes[entry.type].toString(8) }]),
  );
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
    [String.raw`it's a back\slash`, 0o600],
    ['pgsql_tmp.conf', 0o600],
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
    await addInPlaceTablespace(stage);
    const umask = process.umask(0o027);
    cleanup(t, () => void process.umask(umask));
    const directoryMode = initdbArguments.length === 0 ? 0o700 : 0o750;

    for (const wal of ['stream', 'fetch', 'none'] as const) {
      const root = await temporaryDirectory(t);
      const options = (who: string): string[] => {
        const mapping = `${place}=${path.join(root, who, 'space')}`;
        return ['-D', path.join(root, who, 'data'), '-X', wal, '-T', mapping];
      };
      for (const who of ['theirs', ...SOURCES]) await fs.mkdir(path.join(root, who));
      const theirs = await run(command, ['-d', server.conninfo, '-c', 'fast', '-N', ...options('theirs')]);
      assert.equal(theirs.status, 0, theirs.stderr);
      for (const source of SOURCES) {
        const address = source === 'sql' ? server : serve;
        const env = source === 'sql' ? { PGUSER: server.user, PGPASSWORD: server.password } : {};
        const flags = [...options(source), `--source=${source}`];
        const ours = await takeBackup(address, path.join(root, source, 'data'), flags, env);
        assert.equal(ours.status, 0, ours.stderr);
        for (const part of ['data', 'space']) {
          const expected = comparable(await treeOf(root, 'theirs', part));
          const actual = comparable(await treeOf(root, source, part));
          if (wal === 'stream') for (const tree of [expected, actual]) delete tree[SEGMENT_MARK];
          const isOverSql = source === 'sql';
          assert.deepEqual(actual, isOverSql ? withModesOf(directoryMode, expected) : expected, part);
        }
        const [expected, actual] = await Promise.all(
          ['theirs', source].map((who) => readManifest(path.join(root, who, 'data'))),
        );
        assert.deepEqual(
          comparableManifest(actual ?? new Map()),
          comparableManifest(expected ?? new Map()),
          `${source}, -X ${wal}`,
        );
      }
    }
  });
}

/** Links are shown relative to the backup that they belong to. */
async function treeOf(root: string, who: string, part: string): Promise<Map<string, TreeEntry>> {
  const tree = await readTree(path.join(root, who, part));
  return new Map(
    [...tree].map(([name, entry]) => [
      name,
      entry.type === 'link'
        ? { ...entry, content: path.relative(path.join(root, who), entry.content) }
        : entry,
    ]),
  );
}
