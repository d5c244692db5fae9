/*
 * What the demo backs up: tables of a known content in both tablespaces, and the proof that a server holds it. Reading
 * every table by sequential scan makes the server check the checksum of every page (src/backend/storage/page/bufpage.c).
 */
import type { ServerConnection } from '../wire/connection.js';

/** One row is one kilobyte, eight of them a page. */
const ROWS_PER_MEGABYTE = 1024;
const SMALL_TABLES = 20;
const TABLESPACE = 'demo_space';

interface FilledTable {
  readonly name: string;
  /** Of all the rows. */
  readonly share: number;
  readonly tablespace?: string;
}

const FILLED_TABLES: readonly FilledTable[] = [
  { name: 'accounts', share: 0.55 },
  { name: 'history', share: 0.3, tablespace: TABLESPACE },
  ...Array.from({ length: SMALL_TABLES }, (_, index) => ({
    name: `branch_${index + 1}`,
    share: 0.15 / SMALL_TABLES,
  })),
];

/** Creates the tablespace, the tables and the writer's table; `directory` is the tablespace's, empty. */
export async function fillTables(
  sql: ServerConnection,
  { megabytes, directory }: { readonly megabytes: number; readonly directory: string },
): Promise<void> {
  await sql.query(`create tablespace ${TABLESPACE} location '${directory.replaceAll("'", "''")}'`);
  for (const { name, share, tablespace = 'pg_default' } of FILLED_TABLES) {
    const rows = Math.ceil(megabytes * share * ROWS_PER_MEGABYTE);
    await sql.query(
      `create table ${name} tablespace ${tablespace} as
         select n as id, n * 7919 % 100000 as balance, repeat(md5(n::text), 30) as filler
           from generate_series(1, ${rows}) n`,
    );
    await sql.query(`create unique index on ${name} (id) tablespace ${tablespace}`);
  }
}

/** One line that changes with any row of the filled tables. */
export async function contentDigest(sql: ServerConnection): Promise<string> {
  const digests: string[] = [];
  for (const { name } of FILLED_TABLES) {
    const [row] = await sql.query(
      `select count(*) || ':' || sum(hashtextextended(t::text, 0)) from only ${name} t`,
    );
    digests.push(`${name} ${row?.[0]}`);
  }
  return digests.join(', ');
}

/**
 * Reads every page of every table, with TOAST and system tables, of the database.
 *
 * @returns the number of tables
 * @throws ConvoyError `server_error` on a page whose checksum is wrong
 */
export async function readAllTables(sql: ServerConnection): Promise<number> {
  for (const method of ['enable_indexscan', 'enable_indexonlyscan', 'enable_bitmapscan']) {
    await sql.query(`set ${method} = off`);
  }
  const tables = await sql.query(
    `select oid::regclass::text from pg_class where relkind in ('r', 't', 'm', 'S')`,
  );
  for (const [name] of tables) await sql.query(`select count(*) from ${name}`);
  return tables.length;
}
