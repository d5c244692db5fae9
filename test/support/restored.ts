/*
 * Proves a backup with PostgreSQL itself: pg_verifybackup on its files, a server started on them, every table read,
 * every index checked. Nothing here uses the project's own verification.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import * as fs from 'node:fs/promises';
import path from 'node:path';
import type { TestContext } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { EmbeddedServer } from '../../src/demo/embedded-server.js';
import type { PostgresBinaries } from '../../src/demo/postgres-binaries.js';
import { cleanup, temporaryDirectory } from './cleanup.js';
import { connect, sql } from './postgres.js';
import { missingTool, run, tool } from './tools.js';

const RECOVERY_LIMIT_MS = 120_000;

/**
 * Runs pg_verifybackup on a backup in plain format and fails with what it says; without the tool, notes that and returns.
 * The tool is 15's: it reads the WAL of a 15 backup only, and a version 2 manifest through a version 1 copy.
 *
 * @param expected `manifest: false` for a backup taken without one: that it is absent is all there is to check then.
 */
export async function verifyBackup(
  t: TestContext,
  dir: string,
  major: number,
  expected: { manifest: boolean } = { manifest: true },
): Promise<void> {
  const manifest = path.join(dir, 'backup_manifest');
  if (!expected.manifest) {
    await assert.rejects(fs.stat(manifest), { code: 'ENOENT' });
    return;
  }
  const text = await fs.readFile(manifest, 'utf8');
  assertManifestVersion(text, major);
  const command = tool('pg_verifybackup');
  if (command === undefined) {
    t.diagnostic(missingTool('pg_verifybackup'));
    return;
  }
  const args = major === 15 ? [] : ['-n'];
  if (major >= 17) {
    const copy = path.join(await temporaryDirectory(t), 'backup_manifest');
    await fs.writeFile(copy, asVersion1(text));
    args.push('-m', copy);
  }
  const result = await run(command, [...args, dir]);
  assert.equal(result.status, 0, `pg_verifybackup: ${result.stdout}${result.stderr}`);
}

function assertManifestVersion(text: string, major: number): void {
  const version = /^\{ "PostgreSQL-Backup-Manifest-Version": (\d),\n/.exec(text)?.[1];
  assert.equal(version, major >= 17 ? '2' : '1', 'version of the backup manifest');
  assert.equal(
    /^"System-Identifier": \d+,$/m.test(text),
    major >= 17,
    'system identifier in the backup manifest',
  );
  const { body, checksum } = splitManifest(text);
  assert.equal(createHash('sha256').update(body).digest('hex'), checksum, 'Manifest-Checksum');
}

/** The manifest up to its last line, which that line's SHA-256 covers (src/backend/backup/backup_manifest.c). */
function splitManifest(text: string): { body: string; checksum: string | undefined } {
  const at = text.lastIndexOf('"Manifest-Checksum"');
  return {
    body: text.slice(0, at),
    checksum: /^"Manifest-Checksum": "([0-9a-f]{64})"\}\n$/.exec(text.slice(at))?.[1],
  };
}

/** The manifest as 13 to 16 would have written it. */
function asVersion1(text: string): string {
  const body = splitManifest(text)
    .body.replace('"PostgreSQL-Backup-Manifest-Version": 2,', '"PostgreSQL-Backup-Manifest-Version": 1,')
    .replace(/^"System-Identifier": \d+,\n/m, '');
  return `${body}"Manifest-Checksum": "${createHash('sha256').update(body).digest('hex')}"}\n`;
}

export interface RestoredOptions {
  /** The backup, in plain format; used in place. */
  readonly dir: string;
  /** The server that it was taken from: says the password, and the binaries unless `binaries` does. */
  readonly origin: EmbeddedServer;
  readonly binaries?: PostgresBinaries;
  /** Tablespace directories that only a tablespace_map leads to yet. */
  readonly tablespaces?: readonly string[];
  /** Win over those that the backup brings. */
  readonly settings?: Readonly<Record<string, string>>;
}

/** Starts a server on a backup and returns once recovery has ended; it is stopped when the test has ended. */
export async function startRestored(t: TestContext, options: RestoredOptions): Promise<EmbeddedServer> {
  const { dir, origin, binaries = origin.binaries, tablespaces = [], settings } = options;
  const links = await tablespaceLinks(dir);
  const origins = new Set(await tablespaceLinks(origin.dataDirectory));
  const shared = links.find((link) => origin.pid !== undefined && origins.has(link));
  assert.equal(
    shared,
    undefined,
    'the restored server would use a tablespace directory of the running origin',
  );
  // PostgreSQL insists on who may enter its own directory, which an in-place tablespace lies in
  const outside = links.filter((link) => !link.startsWith(`${dir}/`));
  for (const directory of [dir, ...outside, ...tablespaces]) await openParents(directory);
  const server = await EmbeddedServer.adopt({
    binaries,
    dataDirectory: dir,
    tablespaces,
    password: origin.password,
    settings: { archive_mode: 'off', ...settings },
  });
  cleanup(t, () => server[Symbol.asyncDispose]());
  await server.start();
  await recoveryEnd(server);
  return server;
}

async function tablespaceLinks(dataDirectory: string): Promise<string[]> {
  const directory = path.join(dataDirectory, 'pg_tblspc');
  const names = await fs.readdir(directory);
  return Promise.all(names.map((name) => fs.realpath(path.join(directory, name))));
}

/** Lets the server's account pass through the test's own directories above this one; PostgreSQL's are not touched. */
async function openParents(directory: string): Promise<void> {
  if (process.getuid?.() !== 0) return;
  for (let at = path.dirname(await fs.realpath(directory)); at !== path.dirname(at); at = path.dirname(at)) {
    const { mode } = await fs.stat(at);
    if (at.includes('pgconvoy-test-') && (mode & 0o11) !== 0o11) await fs.chmod(at, mode | 0o11);
  }
}

async function recoveryEnd(server: EmbeddedServer): Promise<void> {
  for (const limit = Date.now() + RECOVERY_LIMIT_MS; Date.now() < limit; await delay(50)) {
    const [row] = await sql<{ running: boolean }>(server, 'select pg_is_in_recovery() as running').catch(
      async (cause: unknown) => {
        throw new Error(`recovery failed\n${await server.log()}`, { cause });
      },
    );
    if (row?.running === false) return;
  }
  throw new Error(`recovery has not ended in ${RECOVERY_LIMIT_MS / 1000} s\n${await server.log()}`);
}

/**
 * Checks a restored server: `ledger` holds ids from 1 to at least `highestCommitted` without a gap, every table of every
 * database reads in full (PostgreSQL verifies each page's checksum), every index agrees with its table, and after a clean
 * stop pg_checksums finds nothing. What a missing tool leaves unchecked is noted. The server is stopped afterwards.
 *
 * @param expected `highestCommitted` undefined for a cluster that had no workload.
 */
export async function checkRestored(
  t: TestContext,
  server: EmbeddedServer,
  expected: { highestCommitted: number | undefined; database?: string },
): Promise<void> {
  const { highestCommitted, database = 'postgres' } = expected;
  if (highestCommitted !== undefined) {
    const text =
      'select count(*)::int as count, coalesce(min(id), 1)::int as lowest, coalesce(max(id), 0)::int as highest from ledger';
    const [ledger] = await sql<{ count: number; lowest: number; highest: number }>(server, text, [], {
      database,
    });
    assert.deepEqual(
      [ledger?.lowest, ledger?.highest],
      [1, ledger?.count],
      'ids of the ledger without a gap',
    );
    assert.ok(
      (ledger?.count ?? 0) >= highestCommitted,
      `ledger ends at ${ledger?.count}, ${highestCommitted} was committed`,
    );
  }
  const databases = await sql<{ datname: string }>(
    server,
    // -2 marks what an interrupted DROP DATABASE left; nobody can connect to it.
    'select datname from pg_database where datallowconn and datconnlimit <> -2 order by datname',
  );
  for (const { datname } of databases) await readEverything(server, datname);
  await checkIndexes(
    t,
    server,
    databases.map(({ datname }) => datname),
  );
  const [checksums] = await sql<{ data_checksums: string }>(server, 'show data_checksums');
  await server.stop('fast');
  if (checksums?.data_checksums === 'on') await checkPages(t, server);
}

/** Reads every table, materialized view, TOAST table and sequence; temporary ones have lost their sessions and files. */
async function readEverything(server: EmbeddedServer, database: string): Promise<void> {
  const client = await connect(server, { database });
  try {
    await client.query(
      'set enable_indexscan = off; set enable_indexonlyscan = off; set enable_bitmapscan = off',
    );
    const { rows } = await client.query<{ name: string }>(
      "select oid::regclass::text as name from pg_class where relkind in ('r', 'm', 't', 'S') and relpersistence <> 't'",
    );
    for (const { name } of rows) await client.query(`select count(*) from ${name}`);
  } finally {
    await client.end();
  }
}

async function checkIndexes(
  t: TestContext,
  server: EmbeddedServer,
  databases: readonly string[],
): Promise<void> {
  const command = tool('pg_amcheck');
  // Before 14, the amcheck extension has nothing for tables, and pg_amcheck refuses.
  if (command !== undefined && server.binaries.major >= 14) {
    const target = ['-h', server.host, '-p', String(server.port), '-U', server.user];
    const flags = ['--all', '--install-missing', '--heapallindexed', ...target];
    const result = await run(command, flags, { env: { PGPASSWORD: server.password } });
    assert.equal(result.status, 0, `pg_amcheck: ${result.stdout}${result.stderr}`);
    return;
  }
  if (command === undefined) t.diagnostic(`${missingTool('pg_amcheck')}; B-tree indexes were checked by SQL`);
  for (const database of databases) {
    const text = `create extension if not exists amcheck;
      select bt_index_check(i.indexrelid, true) from pg_index i join pg_class c on c.oid = i.indexrelid
      join pg_am a on a.oid = c.relam
      where a.amname = 'btree' and c.relkind = 'i' and c.relpersistence <> 't' and i.indisready and i.indisvalid`;
    await sql(server, text, undefined, { database });
  }
}

/** 15's pg_checksums reads the control file of 13 to 16 (PG_CONTROL_VERSION 1300); 17 and 18 have others. */
async function checkPages(t: TestContext, server: EmbeddedServer): Promise<void> {
  const command = tool('pg_checksums');
  const { major } = server.binaries;
  if (command === undefined || major >= 17) {
    t.diagnostic(
      command === undefined ? missingTool('pg_checksums') : `pg_checksums 15 does not read ${major}`,
    );
    return;
  }
  // It looks for its own version's directory in a tablespace.
  const renamed: [string, string][] = [];
  for (const link of major === 15 ? [] : await tablespaceLinks(server.dataDirectory)) {
    const names = await fs.readdir(link);
    const own = names.find((name) => name.startsWith(`PG_${major}_`));
    if (own !== undefined) renamed.push([path.join(link, own), path.join(link, 'PG_15_202209061')]);
  }
  for (const [name, foreign] of renamed) await fs.rename(name, foreign);
  try {
    const result = await run(command, ['--check', '-D', server.dataDirectory]);
    assert.equal(result.status, 0, `pg_checksums: ${result.stdout}${result.stderr}`);
  } finally {
    for (const [name, foreign] of renamed) await fs.rename(foreign, name);
  }
}
