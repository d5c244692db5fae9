/* A short session on a stock server that only asks: for `pgconvoy check`. */
import { parseControlFile } from '../pgdata/control-file.js';
import { majorVersionOf } from '../server-version.js';
import type { ServerConnection } from '../wire/connection.js';
import type { OpenOptions } from '../wire/open-options.js';
import type { ConnectionSettings } from '../wire/conninfo.js';
import type { Requirement } from './requirement.js';
import type { SourceFile, SourceTablespace } from './source.js';
import { listCluster, readTablespaces } from './sql-listing.js';
import { checkRequirements, type RequirementOptions } from './sql-requirements.js';
import { openSqlSession, readControlBytes } from './sql-session.js';
import { SERVER_FACTS } from './sql-statements.js';

export interface ClusterContents {
  readonly tablespaces: readonly SourceTablespace[];
  readonly files: readonly SourceFile[];
  readonly walSegmentBytes: number;
  /** max_wal_size: about what the server writes from one checkpoint to the next. */
  readonly maxWalBytes: number;
}

const MAX_WAL_BYTES = "SELECT pg_catalog.pg_size_bytes(pg_catalog.current_setting('max_wal_size'))";

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

  /** What a backup that starts now would copy. */
  async contents(): Promise<ClusterContents> {
    const { catalogVersion } = parseControlFile(await readControlBytes(this.#connection));
    const [facts] = await this.#connection.query(SERVER_FACTS);
    const [walSegmentBytes, , , statsTempDirectory] = facts ?? [];
    const [[maxWalBytes] = []] = await this.#connection.query(MAX_WAL_BYTES);
    const tablespaces = await readTablespaces(this.#connection);
    const { files } = await listCluster(this.#connection, {
      major: this.major,
      catalogVersion,
      tablespaces,
      statsTempDirectory: statsTempDirectory ?? undefined,
    });
    return {
      tablespaces: tablespaces.linked,
      files,
      walSegmentBytes: Number(walSegmentBytes),
      maxWalBytes: Number(maxWalBytes),
    };
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#connection.close();
  }
}
