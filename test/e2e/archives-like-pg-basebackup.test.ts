/*
 * pgconvoy's archives of an idle server beside pg_basebackup's: the same archives, and in them the same members with their
 * types, permissions, owners' names and sizes, the same manifest entries.
 */
import assert from 'node:assert/strict';
import * as fs from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { temporaryDirectory } from '../support/cleanup.js';
import { pgconvoy } from '../support/pgconvoy.js';
import { sql } from '../support/postgres.js';
import { requireTool, run } from '../support/tools.js';
import { BACKUP_ENVIRONMENT, setStage } from './stage.js';

/** Theirs differ from one backup to the next. */
const OWN_SIZES = /^(?:backup_label|backup_manifest)$/;

/** Lines of `tar -tv` without what differs between any two backups: the order, times, names of WAL segments. */
async function members(archive: string): Promise<string[]> {
  const listed = await run('tar', ['-t', '-v', '-f', archive]);
  assert.equal(listed.status, 0, listed.stderr);
  return listed.stdout
    .split('\n')
    .slice(0, -1)
    .map((line) => {
      const [, facts = '', size = '', name = ''] = /^(\S+ \S+) +(\d+) \S+ \S+ (.*)$/.exec(line) ?? [];
      const plain = name.replace(/^\.\//, '').replace(/[0-9A-F]{24}/, 'SEGMENT');
      return `${facts} ${OWN_SIZES.test(plain) ? '' : size} ${plain}`;
    })
    .toSorted();
}

async function manifestPaths(directory: string): Promise<string[]> {
  const text = await fs.readFile(path.join(directory, 'backup_manifest'), 'utf8');
  const { Files } = JSON.parse(text) as { readonly Files: readonly { readonly Path: string }[] };
  return Files.map((entry) => entry.Path.replace(/[0-9A-F]{24}/, 'SEGMENT')).toSorted();
}

for (const initdbArguments of [[], ['--allow-group-access']]) {
  const kind = initdbArguments.length === 0 ? 'for its owner alone' : 'that its group may read';
  test(`archives of a cluster ${kind} are what pg_basebackup makes of it`, async (t) => {
    const command = requireTool(t, 'pg_basebackup');
    if (command === undefined) return;
    const { server, serve } = await setStage(t, { initdbArguments, settings: { autovacuum: 'off' } });
    const outside = await server.makeDirectory(path.join(await temporaryDirectory(t), 'space'));
    const inside = await server.makeDirectory(path.join(server.dataDirectory, 'inside'));
    for (const [name, place] of [
      ['far', outside],
      ['near', inside],
    ] as const) {
      await sql(server, `CREATE TABLESPACE ${name} LOCATION '${place}'`);
      await sql(
        server,
        `CREATE TABLE t_${name} TABLESPACE ${name} AS SELECT n FROM generate_series(1, 999) n`,
      );
    }
    const root = await temporaryDirectory(t);
    const theirs = path.join(root, 'theirs');
    const flags = ['-Ft', '-X', 'fetch', '-c', 'fast', '-N'];
    const reference = await run(command, ['-D', theirs, '-d', server.conninfo, ...flags]);
    assert.equal(reference.status, 0, reference.stderr);
    const names = (await fs.readdir(theirs)).toSorted();

    for (const [source, { host, port }, env] of [
      ['walsender', serve, BACKUP_ENVIRONMENT],
      ['sql', server, { PGUSER: server.user, PGPASSWORD: server.password }],
    ] as const) {
      const ours = path.join(root, source);
      const connection = ['-h', host, '-p', String(port), `--source=${source}`, '-w'];
      const result = await pgconvoy(['backup', '-D', ours, ...connection, ...flags, '-j', '2'], { env });
      assert.equal(result.status, 0, result.stderr);
      assert.deepEqual((await fs.readdir(ours)).toSorted(), names);
      for (const name of ['.', ...names]) {
        const [expected, actual] = await Promise.all(
          [theirs, ours].map((at) => fs.stat(path.join(at, name))),
        );
        assert.equal(actual?.mode.toString(8), expected?.mode.toString(8), name);
      }
      for (const name of names.filter((each) => each.endsWith('.tar'))) {
        assert.deepEqual(await members(path.join(ours, name)), await members(path.join(theirs, name)), name);
      }
      assert.deepEqual(await manifestPaths(ours), await manifestPaths(theirs));
    }
  });
}
