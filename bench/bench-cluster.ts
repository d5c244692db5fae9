/*
 * The cluster that is backed up: one table of several segments of 1 GiB where there is room for them, a few middling
 * ones, and many small ones. Page checksums are on, as they are checked by every program that is compared.
 */
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { EmbeddedServer } from '../src/demo/embedded-server.js';
import { openSql } from '../src/demo/server-sql.js';
import { binariesOf } from '../test/support/postgres.js';

/** The version that pg_basebackup of Debian's postgresql-15 fits. */
export const BENCH_MAJOR = 15;

/** A row is some 900 bytes with its header, nine to a page. */
const ROWS_PER_GIGABYTE = 9 * 128 * 1024;
const MIDDLING_TABLES = 6;
const SMALL_TABLES = 300;
const LARGE_SHARE = 0.7;
const FILES_PER_DIRECTORY = 1000;

/** Makes and starts the server; whoever calls disposes of it. */
export interface ClusterSize {
  readonly gigabytes: number;
  /** Small files beside the tables. */
  readonly files: number;
}

export async function startBenchServer(
  directory: string,
  { gigabytes, files }: ClusterSize,
): Promise<EmbeddedServer> {
  const server = await EmbeddedServer.create({
    binaries: await binariesOf(BENCH_MAJOR),
    directory: path.join(directory, 'server'),
    settings: {
      shared_buffers: '256MB',
      // the WAL of a backup that fetches it at the end is still there, and that of the filling takes little room
      max_wal_size: '512MB',
      wal_keep_size: '256MB',
      autovacuum: 'off',
    },
  });
  try {
    await server.start();
    await fill(server, gigabytes);
    await addFiles(server, files);
    return server;
  } catch (error) {
    await server[Symbol.asyncDispose]();
    throw error;
  }
}

async function fill(server: EmbeddedServer, gigabytes: number): Promise<void> {
  await using sql = await openSql(server);
  const rows = gigabytes * ROWS_PER_GIGABYTE;
  const largeRows = Math.round(rows * LARGE_SHARE);
  await sql.query(fillTable('accounts', largeRows));
  await sql.query('create unique index on accounts (aid)');
  for (let index = 0; index < MIDDLING_TABLES; index += 1) {
    await sql.query(fillTable(`history_${index}`, Math.round((rows - largeRows) / MIDDLING_TABLES)));
  }
  for (let index = 0; index < SMALL_TABLES; index += 1) {
    await sql.query(fillTable(`branch_${index}`, 20));
    await sql.query(`create unique index on branch_${index} (aid)`);
  }
  await sql.query('vacuum freeze');
  await sql.query('checkpoint');
}

/** Files of 8 kB that are nobody's relation: a cluster of as many tables would take hours to make. */
async function addFiles(server: EmbeddedServer, files: number): Promise<void> {
  const content = Buffer.alloc(8192, 1);
  for (let first = 0; first < files; first += FILES_PER_DIRECTORY) {
    const directory = await server.makeDirectory(path.join(server.dataDirectory, `files_${first}`));
    const count = Math.min(FILES_PER_DIRECTORY, files - first);
    for (let file = 0; file < count; file += 1) {
      writeFileSync(path.join(directory, String(file)), content, { mode: 0o644 });
    }
  }
}

/** Orders, as tables have them: numbers, times, words that come again, and identifiers that do not. */
function fillTable(name: string, rows: number): string {
  return `create table ${name} as select n as aid, n % 100000 as bid,
      timestamptz '2020-01-01' + n * interval '37 seconds' as ordered,
      'customer.' || n % 70001 || '@' || ${wordOf('n % 13')} || '.example' as email,
      '[' || ${Array.from({ length: LINES_OF_AN_ORDER }, (_, line) => orderLine(line)).join(" || ',' || ")} || ']' as lines
    from generate_series(1, ${rows}) n`;
}

const LINES_OF_AN_ORDER = 8;
const WORDS =
  'amber,basalt,cedar,denim,ember,fjord,garnet,hazel,indigo,juniper,khaki,linen,maple,nickel,onyx,pine,quartz,rust,slate,teak,umber,velvet,walnut';

function wordOf(index: string): string {
  return `(string_to_array('${WORDS}', ','))[1 + (${index}) % 23]`;
}

function orderLine(line: number): string {
  const pseudoRandom = (factor: number): string => `(n::bigint * ${factor * 2 + line * 31 + 1})`;
  return `'{"line": ${line}, "article": "' || left(md5(${pseudoRandom(5)}::text), 12) || '", "title": "' ||
    ${wordOf(pseudoRandom(3))} || ' ' || ${wordOf(pseudoRandom(17))} || ' ' || ${wordOf(pseudoRandom(29))} ||
    '", "quantity": ' || ${pseudoRandom(7919)} % 17 || ', "cents": ' || ${pseudoRandom(104_729)} % 99991 || '}'`;
}
