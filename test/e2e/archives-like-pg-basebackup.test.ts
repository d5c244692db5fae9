/*
 * pgconvoy's archives of an idle server beside pg_basebackup's: the same archives, and in them the same members with their
 * types, permissions, owners, sizes and times, the same manifest entries, and with -R the same files of a standby.
 */
import assert from 'node:assert/strict';
import * as fs from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { temporaryDirectory, type TestScope } from '../support/cleanup.js';
import { pgconvoy, PROGRAM } from '../support/pgconvoy.js';
import { sql } from '../support/postgres.js';
import { requireTool, run, type RunOptions, type RunResult } from '../support/tools.js';
import { tarMembers } from '../server/tar-reading.js';
import { BACKUP_ENVIRONMENT, setStage, type Stage } from './stage.js';

/** Written anew for each backup. */
const OWN = /^(?:backup_label|tablespace_map|backup_manifest|standby\.signal|postgresql\.auto\.conf)$/;
/** Of these, the ones whose size is another each time; postgresql.auto.conf has one more of our choosing. */
const OWN_SIZES = /^(?:backup_label|backup_manifest|postgresql\.auto\.conf)$/;
/** Rewritten by the checkpoint that each backup begins with. */
const CHECKPOINTED = /^(?:global\/pg_control|pg_logical\/replorigin_checkpoint|pg_wal\/.*)$/;
/** pg_basebackup puts these in itself, with numbers of an owner that no server has (bbstreamer_inject.c, astreamer_inject.c). */
const INJECTED = /^(?:backup_manifest|standby\.signal)$/;

/** In pg_wal.tar: whether the last segment is marked as archived depends on how far pg_basebackup had come. */
const STREAMED_MARK = /^archive_status\/[0-9A-F]{24}\.done$/;

interface Side {
  readonly source: 'walsender' | 'sql';
  readonly connection: readonly string[];
  readonly env: Readonly<Record<string, string>>;
}

function sides({ server, serve }: Stage): Side[] {
  return [
    {
      source: 'walsender',
      connection: ['-h', serve.host, '-p', String(serve.port)],
      env: BACKUP_ENVIRONMENT,
    },
    { source: 'sql', connection: ['-d', server.conninfo], env: {} },
  ];
}

function plainName(name: string): string {
  return name.replace(/^\.\//, '').replace(/[0-9A-F]{24}/, 'SEGMENT');
}

/** What the members' headers say, but for what differs between any two backups: the order, times, names of segments. */
async function headers(archive: Buffer, source?: Side['source']): Promise<string[]> {
  const members = await tarMembers(archive);
  return members
    .filter(({ header }) => !STREAMED_MARK.test(header.name))
    .map(({ header }) => {
      const { type, mode, uid, gid, uname, gname, size, mtime } = header;
      const name = plainName(header.name);
      // over SQL the server does not tell them
      const owner = source === 'sql' || INJECTED.test(name) ? '-' : `${uid}/${gid}`;
      const isStable = type === 'file' && !OWN.test(name) && !CHECKPOINTED.test(name) && name !== 'SEGMENT';
      const time = isStable ? mtime?.toISOString() : '';
      const bytes = OWN_SIZES.test(name) ? '' : size;
      return `${name} ${type} ${mode.toString(8)} ${owner} ${uname}/${gname} ${bytes} ${time}`;
    })
    .toSorted();
}

interface Manifest {
  readonly Files: readonly Readonly<Record<string, unknown>>[];
}

/** Its fields, each file with all of its own as far as two backups agree in them. */
function manifestFacts(text: string): object {
  const { Files, ...manifest } = JSON.parse(text) as Manifest;
  const facts = Files.map((entry) => {
    const name = String(entry['Path']);
    if (!OWN.test(name) && !CHECKPOINTED.test(name)) return entry;
    const { Path, Size, 'Checksum-Algorithm': algorithm } = entry;
    return { Path: plainName(String(Path)), Size: OWN_SIZES.test(name) ? '' : Size, algorithm };
  });
  return {
    ...manifest,
    'WAL-Ranges': '',
    'Manifest-Checksum': '',
    Files: facts.toSorted((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1)),
  };
}

async function readManifest(directory: string): Promise<string> {
  return await fs.readFile(path.join(directory, 'backup_manifest'), 'utf8');
}

async function contentOf(directory: string, name: string): Promise<string | undefined> {
  const members = await tarMembers(await fs.readFile(path.join(directory, 'base.tar')));
  return members.find(({ header }) => header.name === name)?.content.toString();
}

/** The same files, and of the connection what was asked for, as theirs; they write all the defaults as well. */
async function assertSameStandby(ours: string, theirs: string, source: Side['source']): Promise<void> {
  assert.deepEqual(await contentOf(ours, 'standby.signal'), await contentOf(theirs, 'standby.signal'));
  const [expected = '', actual = ''] = await Promise.all(
    [theirs, ours].map((at) => contentOf(at, 'postgresql.auto.conf')),
  );
  const setting = /^primary_conninfo = '(.*)'\n$/m;
  assert.equal(actual.replace(setting, ''), expected.replace(setting, ''));
  if (source === 'walsender') return;
  const [theirWords = [], ourWords = []] = [expected, actual].map((text) =>
    setting.exec(text)?.[1]?.split(' '),
  );
  assert.deepEqual(
    ourWords.filter((word) => !theirWords.includes(word)),
    [],
  );
  const asked = theirWords.filter((word) => /^(?:host|password|port|user)=/.test(word));
  assert.equal(asked.length, 4);
  for (const word of asked) assert.ok(ourWords.includes(word), word);
}

/** Everything but what -R adds. */
async function assertSameBackup(ours: string, theirs: string, source: Side['source']): Promise<void> {
  const names = (await fs.readdir(theirs)).toSorted();
  assert.deepEqual((await fs.readdir(ours)).toSorted(), names);
  for (const name of ['.', ...names]) {
    const [expected, actual] = await Promise.all([theirs, ours].map((at) => fs.stat(path.join(at, name))));
    assert.equal(actual?.mode.toString(8), expected?.mode.toString(8), name);
  }
  for (const name of names.filter((each) => each.endsWith('.tar'))) {
    const [expected, actual] = await Promise.all(
      [theirs, ours].map((at) => fs.readFile(path.join(at, name))),
    );
    assert.ok(expected !== undefined && actual !== undefined);
    // what is streamed has no owner in either
    const kind = name === 'pg_wal.tar' ? undefined : source;
    assert.deepEqual(await headers(actual, kind), await headers(expected, kind), name);
  }
  assert.deepEqual(manifestFacts(await readManifest(ours)), manifestFacts(await readManifest(theirs)));
}

async function makeTablespaces(t: TestScope, { server }: Stage): Promise<void> {
  const outside = await server.makeDirectory(path.join(await temporaryDirectory(t), 'space'));
  const inside = await server.makeDirectory(path.join(server.dataDirectory, 'inside'));
  for (const [name, place] of [
    ['far', outside],
    ['near', inside],
  ] as const) {
    await sql(server, `CREATE TABLESPACE ${name} LOCATION '${place}'`);
    await sql(server, `CREATE TABLE t_${name} TABLESPACE ${name} AS SELECT n FROM generate_series(1, 999) n`);
  }
}

/** A command whose standard output is an archive. */
function runInto(file: string, command: readonly string[], env: RunOptions['env'] = {}): Promise<RunResult> {
  return run('sh', ['-c', 'exec "$@" >"$0"', file, ...command], { env });
}

for (const initdbArguments of [[], ['--allow-group-access']]) {
  const kind = initdbArguments.length === 0 ? 'for its owner alone' : 'that its group may read';
  test(`archives of a cluster ${kind} are what pg_basebackup makes of it`, async (t) => {
    const command = requireTool(t, 'pg_basebackup');
    if (command === undefined) return;
    const stage = await setStage(t, { initdbArguments, settings: { autovacuum: 'off' } });
    const { server } = stage;
    const root = await temporaryDirectory(t);
    const compare = async (name: string, flags: readonly string[]): Promise<void> => {
      const all = ['-Ft', '-c', 'fast', '-N', ...flags];
      const theirs = path.join(root, name);
      const reference = await run(command, ['-D', theirs, '-d', server.conninfo, ...all]);
      assert.equal(reference.status, 0, reference.stderr);
      for (const { source, connection, env } of sides(stage)) {
        const ours = path.join(root, `${name}-${source}`);
        const args = ['backup', '-D', ours, ...connection, `--source=${source}`, '-w', ...all, '-j', '2'];
        const result = await pgconvoy(args, { env });
        assert.equal(result.status, 0, result.stderr);
        await assertSameBackup(ours, theirs, source);
        if (flags.includes('-R')) await assertSameStandby(ours, theirs, source);
      }
    };
    await compare('stream', ['-X', 'stream', '-R']);
    if (initdbArguments.length > 0) {
      await makeTablespaces(t, stage);
      await compare('fetch', ['-X', 'fetch']);
      return;
    }
    await compare('none', ['-X', 'none']);
    const theirs = path.join(root, 'theirs.tar');
    const flags = ['-D', '-', '-Ft', '-X', 'none', '-c', 'fast'];
    const reference = await runInto(theirs, [command, '-d', server.conninfo, ...flags]);
    assert.equal(reference.status, 0, reference.stderr);
    for (const { source, connection, env } of sides(stage)) {
      const ours = path.join(root, `${source}.tar`);
      const args = ['backup', ...connection, `--source=${source}`, '-w', ...flags];
      const result = await runInto(ours, [process.execPath, PROGRAM, ...args], env);
      assert.equal(result.status, 0, result.stderr);
      const [expected, actual] = await Promise.all([theirs, ours].map((file) => fs.readFile(file)));
      assert.ok(expected !== undefined && actual !== undefined);
      assert.deepEqual(await headers(actual, source), await headers(expected, source));
    }
  });
}
