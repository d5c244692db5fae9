/* A short session on a stock server that only asks: for `pgconvoy check`. */
import { parseControlFile } from '../pgdata/control-file.js';
import { majorVersionOf } from '../server-version.js';
import type { ServerConnection } from '../wire/connection.js';
import type { OpenOptions } from '../wire/open-options.js';
import type { ConnectionSettings } from '../wire/conninfo.js';
import { checkRequirements, type Requirement, type RequirementOptions } from './sql-requirements.js';
import { openSqlSession, readControlBytes } from './sql-session.js';
import { listStatement } from './sql-statements.js';

export class SqlInspection implements AsyncDisposable {
  readonly major: number;
  readonly database: string;
  readonly #connection: ServerConnection;

  static async open(
    options: Pick<OpenOptions, 'askPassword' | 'signal'> & { readonly connection: ConnectionSettings },
  ): Promise<SqlInspection> {
    const { connection: settings, askPassword, signal } = options;
    const connection = await openSqlSession(settings, {
      applicationName: 'pgconvoy check',
      askPassword,
      signal,
    });
    try {
      const [row] = await connection.query('SELECT pg_catalog.current_database()');
      return new SqlInspection(connection, row?.[0] ?? '');
    } catch (error) {
      connection.destroy();
      throw error;
    }
  }

  private constructor(connection: ServerConnection, database: string) {
    this.#connection = connection;
    this.major = majorVersionOf(connection.parameters.get('server_version') ?? '');
    this.database = database;
  }

  requirements(options: RequirementOptions): Promise<Requirement[]> {
    return checkRequirements(this.#connection, options);
  }

  /** About what a backup would hold without WAL: the sum of all files that are not left out as directories. */
  async clusterBytes(): Promise<number> {
    const { catalogVersion } = parseControlFile(await readControlBytes(this.#connection));
    const list = listStatement(`PG_${this.major}_${catalogVersion}`);
    const [row] = await this.#connection.query(
      `SELECT pg_catalog.sum(size) FROM (${list}) AS l(path, isdir, size, mtime) WHERE NOT isdir`,
    );
    return Number(row?.[0] ?? 0);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#connection.close();
  }
}
