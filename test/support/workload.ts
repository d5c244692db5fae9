/*
 * Writes and DDL on a server while a test backs it up. The table `ledger` is the proof: one writer commits ids 1, 2,
 * 3, ... one transaction after the other, so every consistent state of the database holds them without a gap, and the
 * LSN noted after each commit says which ones a backup that ended at a given LSN must hold.
 */
import { setImmediate as nextTurn, setTimeout as delay } from 'node:timers/promises';
import { type Client, DatabaseError } from 'pg';
import { type Endpoint, connect } from './postgres.js';

export interface WorkloadOptions {
  /** Names of tablespaces that the DDL uses beside pg_default. */
  readonly tablespaces?: readonly string[];
  /** The database written to, `postgres` unless given. */
  readonly database?: string;
}

/** What goes wrong by chance where DDL meets other sessions: object in use, deadlock, serialization, lock not available. */
const EXPECTED_ERRORS = new Set(['55006', '40P01', '40001', '55P03']);
const WRITER_PAUSE_MS = 2;

/** Creates the workload's objects and starts it; it runs until `stop`, or until its server goes away. */
export async function startWorkload(server: Endpoint, options: WorkloadOptions = {}): Promise<Workload> {
  const { tablespaces = [], database = 'postgres' } = options;
  const [writer, changer] = await Promise.all([connect(server, { database }), connect(server, { database })]);
  await writer.query(SETUP);
  const { rows } = await writer.query<{ highest: string }>(
    'select coalesce(max(id), 0) as highest from ledger',
  );
  await changer.query('create temporary table scratch (n int, filler text)');
  const version = await changer.query<{ server_version_num: string }>('show server_version_num');
  const major = Math.floor(Number(version.rows[0]?.server_version_num) / 10_000);
  const statements = (cycle: number): string[] => ddl(cycle, tablespaces, major);
  return new Workload(writer, changer, Number(rows[0]?.highest), statements);
}

const SETUP = `
  create table if not exists ledger (id bigint primary key, payload text);
  create table if not exists wandering (n int primary key, filler text);
  create table if not exists emptied (n int, filler text);
  create unlogged table if not exists volatile_rows (n int primary key, filler text);
  insert into wandering select n, repeat(md5(n::text), 10) from generate_series(1, 2000) n on conflict do nothing;
`;

/** One round of DDL; ends with a checkpoint now and then. */
function ddl(cycle: number, tablespaces: readonly string[], major: number): string[] {
  const places = ['pg_default', ...tablespaces];
  const place = places[cycle % places.length] ?? 'pg_default';
  const rows = 'select n, repeat(md5(n::text), 10) as filler from generate_series(1, 3000) n';
  const round = [
    `drop table if exists passing_${(cycle + 3) % 5}`,
    `create table if not exists passing_${cycle % 5} tablespace ${place} as ${rows}`,
    `create index on passing_${cycle % 5} (filler) tablespace ${place}`,
    `insert into emptied ${rows}`,
    'vacuum full emptied',
    'truncate emptied',
    'truncate volatile_rows',
    `insert into volatile_rows ${rows}`,
    'truncate scratch',
    `insert into scratch ${rows}`,
    'select count(*) from (select filler from scratch order by filler, n desc offset 0) sorted', // spills to pgsql_tmp
    'reindex table wandering',
  ];
  if (tablespaces.length > 0) {
    round.push(`alter table wandering set tablespace ${place}`);
    round.push(`alter index wandering_pkey set tablespace ${places[(cycle + 1) % places.length] ?? place}`);
  }
  if (cycle % 8 === 1) {
    // Since 15, CREATE DATABASE copies through WAL unless told to copy files, which is all that older servers do.
    const strategy = major < 15 ? '' : ` strategy ${cycle % 16 === 1 ? 'file_copy' : 'wal_log'}`;
    round.push(
      'drop database if exists passing',
      `create database passing template template0 tablespace ${place}${strategy}`,
    );
  }
  if (cycle % 4 === 3) round.push('checkpoint');
  return round;
}

/** A running workload; made by {@link startWorkload}. */
export class Workload {
  /** Commits in order: an id, and an LSN at or after the end of its commit record. */
  readonly #commits: { readonly id: number; readonly lsn: bigint }[] = [];
  readonly #running: Promise<PromiseSettledResult<void>[]>;
  #highest: number;
  #cycles = 0;
  #stopping = false;
  #failure: Error | undefined;

  constructor(writer: Client, changer: Client, highest: number, statements: (cycle: number) => string[]) {
    this.#highest = highest;
    this.#running = Promise.allSettled([
      this.#keepDoing(writer, () => this.#write(writer)),
      this.#keepDoing(changer, () => this.#change(changer, statements)),
    ]);
  }

  /** The highest id whose commit the server has confirmed. */
  committed(): number {
    return this.#highest;
  }

  /** Rounds of DDL done. */
  ddlCycles(): number {
    return this.#cycles;
  }

  /** The highest id committed before this LSN (`X/X`): what a backup that ended there must hold at least. */
  committedBy(lsn: string): number {
    const end = parseLsn(lsn);
    return this.#commits.findLast((commit) => commit.lsn <= end)?.id ?? 0;
  }

  /**
   * Returns once `commits` more ids are committed and `cycles` more rounds of DDL are done than at the call.
   *
   * @throws Error when the workload has failed.
   */
  async waitFor(commits: number, cycles = 0): Promise<void> {
    const [ids, rounds] = [this.#highest + commits, this.#cycles + cycles];
    while (this.#highest < ids || this.#cycles < rounds) {
      if (this.#failure !== undefined) throw this.#failure;
      if (this.#stopping) throw new Error('the workload is stopped');
      await delay(5);
    }
  }

  /**
   * Ends the workload; what it created stays.
   *
   * @throws Error that ended it before, such as a lost connection or an unexpected SQL error.
   */
  async stop(): Promise<{ highestCommitted: number }> {
    this.#stopping = true;
    await this.#running;
    if (this.#failure !== undefined) throw this.#failure;
    return { highestCommitted: this.#highest };
  }

  async #keepDoing(client: Client, once: () => Promise<void>): Promise<void> {
    try {
      while (!this.#stopping && this.#failure === undefined) await once();
    } catch (cause) {
      this.#failure ??= new Error(`the workload failed: ${String(cause)}`, { cause });
    } finally {
      await client.end().catch(() => undefined);
    }
  }

  async #write(writer: Client): Promise<void> {
    const [first, last] = [this.#highest + 1, this.#highest + 5];
    // Every fifth payload is long and does not compress: it goes to the TOAST table.
    await writer.query(
      `insert into ledger select id, case id % 5 when 0 then (select string_agg(md5(id || '-' || part), '')
         from generate_series(1, 120) part) else repeat('x', (id % 500)::int) end from generate_series($1::bigint, $2) id`,
      [first, last],
    );
    this.#highest = last;
    const { rows } = await writer.query<{ lsn: string }>('select pg_current_wal_insert_lsn() as lsn');
    this.#commits.push({ id: last, lsn: parseLsn(rows[0]?.lsn ?? '0/0') });
    await delay(WRITER_PAUSE_MS);
  }

  async #change(changer: Client, statements: (cycle: number) => string[]): Promise<void> {
    for (const statement of statements(this.#cycles)) {
      if (this.#stopping || this.#failure !== undefined) return;
      try {
        await changer.query(statement);
      } catch (cause) {
        const expected = cause instanceof DatabaseError && EXPECTED_ERRORS.has(cause.code ?? '');
        if (!expected) throw new Error(`${statement}: ${String(cause)}`, { cause });
      }
      await nextTurn();
    }
    this.#cycles += 1;
  }
}

function parseLsn(text: string): bigint {
  const [high = '', low = ''] = text.split('/');
  return (BigInt(`0x${high}`) << 32n) | BigInt(`0x${low}`);
}
