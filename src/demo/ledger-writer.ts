/*
 * A writer that commits rows while a backup runs, and remembers which LSN each commit was done by: a backup that ended
 * at an LSN must hold every row committed before it. Used by the demo.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { INVALID_LSN, parseLsn, type Lsn } from '../lsn.js';
import type { ServerConnection } from '../wire/connection.js';

const ROWS_PER_COMMIT = 10;
/** Leaves the processor to the backup. */
const PAUSE_MS = 2;

interface Commit {
  readonly highestId: number;
  /** At or after the end of the commit record. */
  readonly lsn: Lsn;
}

export class LedgerWriter {
  readonly #sql: ServerConnection;
  readonly #commits: Commit[] = [];
  #running: Promise<void> = Promise.resolve();
  #isStopping = false;
  #failure: unknown;

  /** Creates the table `ledger` and writes ids 1, 2, 3, ... until `stop`; the connection is used by nobody else. */
  static async start(sql: ServerConnection): Promise<LedgerWriter> {
    await sql.query('create table ledger (id bigint primary key, payload text not null)');
    const writer = new LedgerWriter(sql);
    await writer.#commit();
    writer.#running = writer.#run().catch((error: unknown) => {
      writer.#failure = error;
    });
    return writer;
  }

  private constructor(sql: ServerConnection) {
    this.#sql = sql;
  }

  /** Rows committed so far: the ids 1 to this. */
  get committed(): number {
    return this.#commits.at(-1)?.highestId ?? 0;
  }

  /** The rows committed before this LSN: the ids 1 to this. */
  committedBy(lsn: Lsn): number {
    return this.#commits.findLast((commit) => commit.lsn <= lsn)?.highestId ?? 0;
  }

  /** @throws ConvoyError that ended the writer early */
  async stop(): Promise<void> {
    this.#isStopping = true;
    await this.#running;
    if (this.#failure !== undefined) throw this.#failure;
  }

  async #run(): Promise<void> {
    while (!this.#isStopping) {
      await this.#commit();
      await delay(PAUSE_MS);
    }
  }

  async #commit(): Promise<void> {
    const first = this.committed + 1;
    const highestId = this.committed + ROWS_PER_COMMIT;
    await this.#sql.query(
      'insert into ledger select id, md5(id::text) from generate_series($1::bigint, $2::bigint) id',
      [first, highestId],
    );
    const [row] = await this.#sql.query('select pg_current_wal_insert_lsn()');
    this.#commits.push({ highestId, lsn: parseLsn(row?.[0] ?? '') ?? INVALID_LSN });
  }
}

/** How many of the ids 1 to `highestId` a server holds as they were written. */
export async function countLedgerRows(sql: ServerConnection, highestId: number): Promise<number> {
  const [row] = await sql.query(
    'select count(*) from ledger where id between 1 and $1::bigint and payload = md5(id::text)',
    [highestId],
  );
  return Number(row?.[0]);
}
