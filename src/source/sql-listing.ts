/*
 * The files of a stock server's cluster and the tablespaces that they lie in, as one backup takes them: asked by
 * sql-source.ts when a backup has started, and by `pgconvoy check` for what one would hold.
 */
import { ConvoyError } from '../errors.js';
import { LIST_SILENCE_MS } from '../limits.js';
import { walDirectories } from '../pgdata/listed-path.js';
import type { ServerConnection } from '../wire/connection.js';
import { TextRowReader } from '../wire/text-copy.js';
import { checkTablespaces } from './listed-tablespaces.js';
import type { SourceFile, SourceTablespace } from './source.js';
import { SqlListReader } from './sql-list.js';
import { readBytes } from './sql-session.js';
import { listStatement, TABLESPACES } from './sql-statements.js';

/** postmaster.pid is a few short lines. */
const LOCK_FILE_BYTES = 4096;

export interface ClusterTablespaces {
  /** Reached by links in pg_tblspc. */
  readonly linked: readonly SourceTablespace[];
  /** Oids of those that are directories in pg_tblspc. */
  readonly inPlace: ReadonlySet<number>;
}

export interface ListingOptions {
  readonly major: number;
  readonly catalogVersion: number;
  readonly tablespaces: ClusterTablespaces;
  /** stats_temp_directory of PostgreSQL 13 and 14. */
  readonly statsTempDirectory: string | undefined;
}

/** @throws ConvoyError `untrusted_peer` for locations that no server has */
export async function readTablespaces(connection: ServerConnection): Promise<ClusterTablespaces> {
  const rows = (await connection.query(TABLESPACES)).map(([oid, location]) => ({
    oid: Number(oid),
    location: location ?? '',
  }));
  // one in place is a directory of the data directory, named relative to it
  const isLinked = ({ location }: SourceTablespace): boolean => location.startsWith('/');
  return {
    linked: checkTablespaces(rows.filter(isLinked)),
    inPlace: new Set(rows.filter((row) => !isLinked(row)).map(({ oid }) => oid)),
  };
}

/** @returns what is to be copied; directories by their paths, parents before children */
export async function listCluster(
  connection: ServerConnection,
  { major, catalogVersion, tablespaces, statsTempDirectory }: ListingOptions,
): Promise<{ readonly files: readonly SourceFile[]; readonly directories: readonly string[] }> {
  const versionDirectory = `PG_${major}_${catalogVersion}`;
  const reader = new SqlListReader({
    walDirectories: walDirectories(major),
    linkedTablespaces: new Set(tablespaces.linked.map(({ oid }) => oid)),
    inPlaceTablespaces: tablespaces.inPlace,
    versionDirectory,
    insideDirectories: await insideDirectories(connection, tablespaces.linked),
    statsTempDirectory,
  });
  const rows = new TextRowReader((row) => reader.add(row));
  await connection
    .run(listStatement(versionDirectory), {
      copy: (piece) => rows.push(piece),
      silenceLimitMs: LIST_SILENCE_MS,
    })
    .catch((error: unknown) => {
      throw withListHint(error);
    });
  rows.finish();
  return reader.finish();
}

/**
 * Tablespaces that lie inside the data directory are listed there, too. Where that is stands in postmaster.pid (line
 * LOCK_FILE_LINE_DATA_DIR), which needs no other right than reading files.
 */
async function insideDirectories(
  connection: ServerConnection,
  tablespaces: readonly SourceTablespace[],
): Promise<string[]> {
  const lockFile = await readBytes(connection, 'postmaster.pid', 0, LOCK_FILE_BYTES);
  const root = lockFile?.toString().split('\n')[1];
  if (root === undefined || root === '') return [];
  return tablespaces.flatMap(({ location }) =>
    location.startsWith(`${root}/`) ? [location.slice(root.length + 1)] : [],
  );
}

/** What makes a listing fail that all grants allow is a link that leads in a circle, or to where the server may not look. */
function withListHint(error: unknown): unknown {
  if (!(error instanceof ConvoyError) || error.code !== 'server_error') return error;
  const hint =
    error.hint ??
    'over SQL a link in the data directory is followed: remove it, or use pgconvoy serve (--source=walsender)';
  return new ConvoyError(error.code, error.message, { hint, sqlState: error.sqlState, cause: error });
}
