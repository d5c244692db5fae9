/*
 * A backup to be damaged: of a small cluster with a tablespace, taken by pg_basebackup 15 while rows were written, so
 * that it needs several WAL segments. For the tests of verify.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { temporaryDirectory, type TestScope } from '../support/cleanup.js';
import { connect, sql, testServer } from '../support/postgres.js';
import { run } from '../support/tools.js';

export const SEGMENT_BYTES = 1024 * 1024;

export interface TakenBackups {
  /** Directories of the backups by what was asked for. */
  readonly plain: string;
  readonly tar: string;
  readonly gzip: string;
  readonly lz4: string;
  readonly zstd: string;
  /** Below the data directory: a file of a table, of more than a page. */
  readonly relation: string;
  /** Name of the tablespace's archive, without its suffix. */
  readonly tablespace: string;
}

export interface Damage {
  readonly name: string;
  readonly mutilate: (directory: string, backups: TakenBackups) => Promise<void> | void;
  /** What is wrong, in any order; RELATION, TABLESPACE and SEGMENT stand for names, EACHFILE for all but a tablespace's. */
  readonly says: readonly string[];
  readonly options?: readonly string[];
  /** Below the copy, where that is not the backup itself. */
  readonly place?: string;
  /** By an ordinary user, who owns the copy. */
  readonly byOrdinaryUser?: boolean;
  /** What pg_verifybackup says where that differs; undefined where it cannot be asked. */
  readonly theirs?: readonly string[] | undefined;
}

/** @param command pg_basebackup */
export async function takeBackups(t: TestScope, command: string): Promise<TakenBackups> {
  const server = await testServer(t, { major: 15, initdbArguments: ['--wal-segsize=1'] });
  const location = await server.makeDirectory(path.join(await temporaryDirectory(t), 'space'));
  await sql(server, `create tablespace space location '${location}'`);
  await sql(
    server,
    `create table elsewhere tablespace space as select n from generate_series(1, 1000) n;
     create table filled as select n, repeat(md5(n::text), 20) as filler from generate_series(1, 20000) n;
     checkpoint`,
  );
  const [names] = await sql<{ relation: string; tablespace: string }>(
    server,
    `select pg_relation_filepath('filled') as relation, oid::text as tablespace
     from pg_tablespace where spcname = 'space'`,
  );
  const parent = await temporaryDirectory(t);
  const take = async (name: string, args: readonly string[]): Promise<string> => {
    const directory = path.join(parent, name);
    const { host, port, user, password } = server;
    const connection = ['-h', host, '-p', String(port), '-U', user, '-D', directory];
    const mapping = args.includes('-Fp') ? ['-T', `${location}=${path.join(parent, `${name} space`)}`] : [];
    const options = [...connection, ...args, ...mapping, '-X', 'fetch', '-c', 'fast', '-N'];
    const result = await run(command, options, { env: { PGPASSWORD: password } });
    assert.equal(result.status, 0, result.stderr);
    return directory;
  };
  await sql(server, 'create table later (n int, filler text)');
  const client = await connect(server);
  const taking = take('plain', ['-Fp', '-r', '20M']);
  const streaming = `select 1 from pg_stat_progress_basebackup where phase = 'streaming database files'`;
  for (let rows = 0; rows === 0;) rows = (await client.query(streaming)).rowCount ?? 0;
  // each writes more than a segment
  for (let count = 0; count < 4; count += 1) {
    await client.query('insert into later select * from filled limit 3000');
  }
  await client.end();
  return {
    plain: await taking,
    tar: await take('tar', ['-Ft']),
    gzip: await take('gzip', ['-Ft', '-Z', 'gzip:1']),
    lz4: await take('lz4', ['-Ft', '-Z', 'client-lz4']),
    zstd: await take('zstd', ['-Ft', '-Z', 'client-zstd:1']),
    relation: names?.relation ?? '',
    tablespace: names?.tablespace ?? '',
  };
}

/** Turns one bit. @param offset from the end where negative */
export function flip(file: string, offset: number): void {
  const bytes = readFileSync(file);
  const at = offset < 0 ? bytes.length + offset : offset;
  bytes[at] = (bytes[at] ?? 0) ^ 0x10;
  writeFileSync(file, bytes);
}

/** The WAL segments of a plain backup. */
export function segmentsIn(directory: string): string[] {
  return readdirSync(path.join(directory, 'pg_wal'))
    .filter((name) => /^[0-9A-F]{24}$/.test(name))
    .toSorted();
}

/** Changes the manifest and gives it the checksum that it has then. */
export function editManifest(directory: string, edit: (lines: string) => string): void {
  const file = path.join(directory, 'backup_manifest');
  const [lines = ''] = readFileSync(file, 'utf8').split('"Manifest-Checksum"');
  const edited = edit(lines);
  const checksum = createHash('sha256').update(edited).digest('hex');
  writeFileSync(file, `${edited}"Manifest-Checksum": "${checksum}"}\n`);
}
