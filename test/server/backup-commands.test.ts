/*
 * The four commands on the oldest, a middle and the newest server, message by message as PROTOCOL has them, and what they
 * bring against what lies on disk and what the server's own BASE_BACKUP sends.
 */
import assert from 'node:assert/strict';
import * as fs from 'node:fs/promises';
import path from 'node:path';
import test, { type TestContext } from 'node:test';
import type { EmbeddedServer } from '../../src/demo/embedded-server.js';
import { cleanup, temporaryDirectory } from '../support/cleanup.js';
import { sql, testServer, type Major } from '../support/postgres.js';
import { requireTool, run } from '../support/tools.js';
import {
  copyBytes,
  errorOf,
  flow,
  resultSets,
  rowValues,
  type RawClient,
  type RawMessage,
} from './raw-client.js';
import { tarMembers, type TarMember } from './tar-reading.js';
import { backupClient, createBackupRole, testServe, type TestServe } from './test-serve.js';

/** RowDescriptions byte for byte, from a patched server (PROTOCOL "Message flow"). */
const COLUMNS = {
  position:
    '00027265637074720000000000000000000019ffff000000000000746c690000000000000000000014ffff000000000000',
  tablespace:
    '00037370636f6964000000000000000000001a00040000000000007370636c6f636174696f6e0000000000000000000019ffff00000000000073697a6500000000000000000000140008000000000000',
  label:
    '00026c6162656c0000000000000000000019ffff0000000000007461626c6573706163656d61700000000000000000000019ffff000000000000',
  file: '0004706174680000000000000000000019ffff000000000000747970650000000000000000000012000100000000000073697a65000000000000000000001400080000000000006d74696d6500000000000000000000140008000000000000',
} as const;

interface Fixture {
  readonly server: EmbeddedServer;
  readonly serve: TestServe;
  readonly client: RawClient;
  /** One outside the data directory, one inside. */
  readonly outside: string;
  readonly inside: string;
}

async function fixture(t: TestContext, major: Major): Promise<Fixture> {
  const server = await testServer(t, { major, settings: { autovacuum: 'off', wal_keep_size: '256MB' } });
  await createBackupRole(server);
  const outside = await server.makeDirectory(path.join(await temporaryDirectory(t), 'outside'));
  const inside = await server.makeDirectory(path.join(server.dataDirectory, 'inside'));
  for (const statement of [
    `CREATE TABLESPACE outside LOCATION '${outside}'`,
    `CREATE TABLESPACE inside LOCATION '${inside}'`,
    'CREATE TABLE plain AS SELECT g AS id, repeat(md5(g::text), 20) AS filler FROM generate_series(1, 5000) g',
    'CREATE TABLE far (LIKE plain) TABLESPACE outside',
    'CREATE TABLE near (LIKE plain) TABLESPACE inside',
    'INSERT INTO far SELECT * FROM plain',
    'INSERT INTO near SELECT * FROM plain',
    'CREATE UNLOGGED TABLE unlogged AS SELECT * FROM plain',
    'CHECKPOINT',
  ]) {
    await sql(server, statement);
  }
  await fs.writeFile(path.join(server.dataDirectory, 'näme.txt'), 'not ASCII');
  const serve = await testServe(t, server);
  return { server, serve, client: await backupClient(t, serve), outside, inside };
}

function columnsOf(messages: readonly RawMessage[]): string[] {
  return messages.filter(({ type }) => type === 'T').map(({ body }) => body.toString('hex'));
}

function quoted(paths: readonly string[]): string {
  return `(${paths.map((each) => `'${each.replaceAll("'", "''")}'`).join(', ')})`;
}

for (const major of [13, 15, 18] as const) {
  test(`a backup by hand from PostgreSQL ${major}`, async (t) => {
    const { server, client, outside, inside } = await fixture(t, major);
    let label = '';
    let startLsn = '';
    let sets: (string | null)[][][] = [];

    await t.test('START_BACKUP answers with position, tablespaces, label and map', async () => {
      const answer = await client.query("START_BACKUP LABEL 'it''s mine' PROGRESS FAST TABLESPACE_MAP");
      assert.equal(errorOf(answer), undefined);
      assert.equal(flow(answer), 'TDCTD*CTDCCZ');
      assert.deepEqual(columnsOf(answer), [COLUMNS.position, COLUMNS.tablespace, COLUMNS.label]);
      const [position, tablespaces, labels] = resultSets(answer);
      startLsn = position?.[0]?.[0] ?? '';
      const locations = await sql<{ oid: string; location: string }>(
        server,
        `SELECT oid::text, pg_tablespace_location(oid) AS location FROM pg_tablespace
         WHERE pg_tablespace_location(oid) <> '' ORDER BY oid`,
      );
      assert.deepEqual(
        tablespaces?.map(([oid, location]) => [oid, location]),
        [...locations.map(({ oid, location }) => [oid, location]), [null, null]],
      );
      for (const row of tablespaces ?? []) assert.ok(Number(row[2]) > 3000, `size of ${row[1]} in kB`);
      const [text, map] = labels?.[0] ?? [];
      label = text ?? '';
      assert.equal(map, locations.map(({ oid, location }) => `${oid} ${location}\n`).join(''));
      const [facts] = await sql<{ checkpoint: string; redo: string; file: string }>(
        server,
        `SELECT checkpoint_lsn::text AS checkpoint, redo_lsn::text AS redo, redo_wal_file AS file
         FROM pg_control_checkpoint()`,
      );
      assert.equal(startLsn, facts?.redo);
      assert.match(label, /\nSTART TIME: \d{4}-\d\d-\d\d \d\d:\d\d:\d\d [A-Z]+\n/);
      assert.equal(
        label.replace(/START TIME: .*\n/, ''),
        `START WAL LOCATION: ${facts?.redo} (file ${facts?.file})\nCHECKPOINT LOCATION: ${facts?.checkpoint}\n` +
          `BACKUP METHOD: streamed\nBACKUP FROM: ${major < 14 ? 'master' : 'primary'}\n` +
          "LABEL: it's mine\nSTART TIMELINE: 1\n",
      );
    });

    await t.test('a second START_BACKUP is refused and disturbs nothing', async () => {
      const answer = await client.query('START_BACKUP FAST');
      assert.equal(flow(answer), 'EZ');
      assert.equal(errorOf(answer), '55000 ERROR: a backup is already in progress in this session');
    });

    await t.test('SEND_BACKUP_FILELIST lists what the server itself would send', async () => {
      const expected = await baseBackupNames(client, major);
      const answer = await client.query('SEND_BACKUP_FILELIST');
      assert.equal(flow(answer), 'TD*TD*TD*CCZ');
      assert.deepEqual(columnsOf(answer), [COLUMNS.file, COLUMNS.file, COLUMNS.file]);
      sets = resultSets(answer);
      const locations = sets.map((set, index) =>
        index === sets.length - 1 ? '.' : path.dirname(set[0]?.[0] ?? ''),
      );
      assert.deepEqual(locations.toSorted(), ['.', inside, outside].toSorted());
      const lists = sets.map((set, index) => {
        const prefix = `${locations[index]}/`;
        return set
          .map(([name, type]) => (name ?? '').slice(prefix.length) + (type === 'f' ? '' : '/'))
          .toSorted();
      });
      // the server sends the tablespaces in directory order
      const first = (a: string[], b: string[]): number => (a.join() < b.join() ? -1 : 1);
      assert.deepEqual(lists.toSorted(first), expected.toSorted(first));
    });

    await t.test('SEND_BACKUP_FILES brings the files as they are on disk', async () => {
      for (const [index, set] of sets.entries()) {
        const isMain = index === sets.length - 1;
        const paths = set.map(([name]) => name ?? '');
        const answer = await client.query(
          `SEND_BACKUP_FILES ${quoted(paths)} START_WAL_LOCATION '${startLsn}'`,
        );
        assert.equal(errorOf(answer), undefined);
        assert.equal(flow(answer), 'Hd*cCZ');
        const members = await tarMembers(copyBytes(answer));
        assert.equal(members.length, set.length);
        const root = isMain ? server.dataDirectory : path.dirname(paths[0] ?? '');
        for (const [at, member] of members.entries())
          await assertAsOnDisk(member, set[at] ?? [], root, isMain);
      }
    });

    await t.test('STOP_BACKUP brings pg_control and WAL, and where the backup ends', async (inner) => {
      const answer = await client.query(`STOP_BACKUP LABEL '${label.replaceAll("'", "''")}' WAL`);
      assert.equal(errorOf(answer), undefined);
      assert.equal(flow(answer), 'Hd*Nd*cTDCCZ');
      assert.deepEqual(columnsOf(answer), [COLUMNS.position]);
      const members = await tarMembers(copyBytes(answer));
      const names = members.map(({ header }) => header.name);
      const startSegment = /\(file ([0-9A-F]{24})\)/.exec(label)?.[1] ?? '';
      assert.equal(names[0], 'global/pg_control');
      assert.equal(names[1], `pg_wal/${startSegment}`);
      assert.equal(names[2], `pg_wal/archive_status/${startSegment}.done`);
      const segment = await fs.readFile(path.join(server.dataDirectory, 'pg_wal', startSegment));
      assert.ok(members[1]?.content.equals(segment));
      assert.equal(members[2]?.content.length, 0);
      assert.match(resultSets(answer)[0]?.[0]?.join(' ') ?? '', /^[0-9A-F]+\/[0-9A-F]+ 1$/);
      await assertControlFile(inner, members[0]?.content ?? Buffer.alloc(0), server);
    });

    await t.test('the session can take another backup, without WAL and without waiting', async () => {
      const [, , labels] = resultSets(await client.query('START_BACKUP FAST'));
      const [text, map] = labels?.[0] ?? [];
      assert.match(text ?? '', /\nLABEL: start backup\n/);
      assert.equal(map, null);
      const answer = await client.query(`STOP_BACKUP LABEL '${text}' NOWAIT;`);
      assert.equal(flow(answer), 'Hd*cTDCCZ');
      assert.deepEqual(
        (await tarMembers(copyBytes(answer))).map(({ header }) => header.name),
        ['global/pg_control'],
      );
    });
  });
}

/** Names of PostgreSQL's own BASE_BACKUP, one sorted list a tablespace, without what the file list leaves out. */
async function baseBackupNames(client: RawClient, major: Major): Promise<string[][]> {
  const answer = await client.query(major < 15 ? 'BASE_BACKUP FAST' : "BASE_BACKUP (CHECKPOINT 'fast')");
  assert.equal(errorOf(answer), undefined);
  const lists: string[][] = [];
  for (const archive of major < 15 ? oldArchives(answer) : newArchives(answer)) {
    const members = await tarMembers(archive);
    const names = members
      .map(({ header }) => (header.type === 'file' ? header.name : `${header.name.replace(/\/$/, '')}/`))
      .map((name) => name.replace(/^\.\//, ''))
      .filter(
        (name) => !['backup_label', 'tablespace_map', 'backup_manifest', 'global/pg_control'].includes(name),
      );
    lists.push(names.toSorted());
  }
  return lists;
}

/** Up to 14: a COPY an archive. */
function oldArchives(answer: readonly RawMessage[]): Buffer[] {
  const copies: RawMessage[][] = [];
  for (const each of answer) {
    if (each.type === 'H') copies.push([]);
    else copies.at(-1)?.push(each);
  }
  return copies.map(copyBytes);
}

/** From 15 on: one COPY; the first byte of each CopyData tells what it is (n: a new archive, d: its data). */
function newArchives(answer: readonly RawMessage[]): Buffer[] {
  const archives: Buffer[][] = [];
  for (const { type, body } of answer) {
    if (type !== 'd') continue;
    const kind = body.toString('latin1', 0, 1);
    if (kind === 'n') archives.push([]);
    if (kind === 'd') archives.at(-1)?.push(body.subarray(1));
  }
  return archives.map((chunks) => Buffer.concat(chunks));
}

async function assertAsOnDisk(
  { header, content }: TarMember,
  [listed, type, size, mtime]: readonly (string | null)[],
  root: string,
  isMain: boolean,
): Promise<void> {
  const asked = listed ?? '';
  const file = isMain ? path.join(root, asked) : asked;
  const stats = await fs.lstat(file);
  const relative = isMain ? asked.slice(2) : asked.slice(root.length + 1);
  assert.equal(header.mode, stats.mode & 0o7777, asked);
  assert.equal(header.uid, stats.uid);
  assert.equal(header.gid, stats.gid);
  assert.equal(header.uname, 'postgres');
  assert.equal(header.mtime.getTime() / 1000, Math.floor(stats.mtimeMs / 1000));
  // PostgreSQL lists the directories in pg_wal with the facts of pg_wal itself
  if (!relative.startsWith('pg_wal/')) assert.equal(mtime, String(Math.floor(stats.mtimeMs / 1000)));
  if (type === 'f') {
    assert.equal(header.name, relative);
    assert.equal(header.type, 'file');
    assert.equal(size, String(stats.size));
    assert.ok(content.equals(await fs.readFile(file)), asked);
  } else if (type === 'd') {
    assert.equal(header.name, `${relative}/`);
    assert.equal(header.type, 'directory');
    assert.equal(size, '-1');
  } else {
    assert.equal(type, 'l');
    assert.equal(header.name, `./${relative}/`);
    assert.equal(header.type, 'symlink');
    assert.equal(header.linkname, await fs.readlink(file));
  }
}

async function assertControlFile(t: TestContext, content: Buffer, server: EmbeddedServer): Promise<void> {
  assert.equal(content.length, 8192);
  const [row] = await sql<{ id: string }>(
    server,
    'SELECT system_identifier::text AS id FROM pg_control_system()',
  );
  assert.equal(String(content.readBigUInt64LE(0)), row?.id);
  // only the tool of the same release reads it
  if (server.binaries.major !== 15) return;
  const tool = requireTool(t, 'pg_controldata');
  if (tool === undefined) return;
  const directory = await temporaryDirectory(t);
  await fs.mkdir(path.join(directory, 'global'));
  await fs.writeFile(path.join(directory, 'global', 'pg_control'), content);
  const { stdout, status } = await run(tool, [directory]);
  assert.equal(status, 0);
  assert.doesNotMatch(stdout, /WARNING/);
  assert.match(stdout, /Database cluster state: +in production/);
}

test('a standby gives a backup, too', async (t) => {
  const primary = await testServer(t, { major: 15, settings: { autovacuum: 'off' } });
  await createBackupRole(primary);
  const tool = requireTool(t, 'pg_basebackup');
  if (tool === undefined) return;
  const directory = await temporaryDirectory(t);
  const target = path.join(directory, 'standby');
  const { EmbeddedServer: Server } = await import('../../src/demo/embedded-server.js');
  const copied = await run(tool, ['-d', primary.conninfo, '-D', target, '-c', 'fast', '-R', '-N']);
  assert.equal(copied.status, 0, copied.stderr);
  const standby = await Server.adopt({
    binaries: primary.binaries,
    dataDirectory: target,
    password: primary.password,
  });
  cleanup(t, () => standby[Symbol.asyncDispose]());
  await standby.start();
  const serve = await testServe(t, standby, { processCount: 1 });
  const client = await backupClient(t, serve);
  const started = await client.query("START_BACKUP LABEL 'from standby' FAST");
  assert.equal(errorOf(started), undefined);
  const label = resultSets(started)[2]?.[0]?.[0] ?? '';
  assert.match(label, /\nBACKUP FROM: standby\n/);
  const stopped = await client.query(`STOP_BACKUP LABEL '${label}' WAL`);
  assert.equal(errorOf(stopped), undefined);
  const row = stopped.find(({ type }) => type === 'D');
  assert.ok(row);
  assert.equal(rowValues(row)[1], '1');
});
