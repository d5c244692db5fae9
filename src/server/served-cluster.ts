/*
 * The server behind `serve` and the data directory that it reads itself: facts about both, and the check that they
 * belong together. A copy of the directory has the same system identifier, so the lock file decides: both must see the
 * very same postmaster.pid. Checked when `serve` starts, and again whenever a backup starts.
 */
import { readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { ConvoyError, fileError } from '../errors.js';
import { PAGE_BYTES } from '../limits.js';
import { readControlFile } from '../pgdata/control-file.js';
import { majorVersionOf } from '../server-version.js';
import type { ServerConnection } from '../wire/connection.js';

/** Plain data. */
export interface ServedCluster {
  /** Absolute, without symbolic links. */
  readonly dataDirectory: string;
  readonly systemIdentifier: bigint;
  readonly majorVersion: number;
  /** The directory of this server in each tablespace, "PG_15_202209061". */
  readonly versionDirectory: string;
  readonly walSegmentBytes: number;
  /** Where 13 and 14 keep temporary statistics, if below the data directory: relative to it. */
  readonly statsTempDirectory: string | undefined;
}

const FACTS = `
  SELECT system_identifier::text, current_setting('server_version'), current_setting('block_size'),
    pg_size_bytes(current_setting('wal_segment_size'))::text,
    current_setting('stats_temp_directory', true)
  FROM pg_control_system()`;

const LOCK_FILE = 'postmaster.pid';

/** Times of a file as a server shows them have whole seconds. */
const SERVERS_LOCK_FILE = `
  SELECT pg_read_file('${LOCK_FILE}'), size::text, extract(epoch FROM modification)::bigint::text,
    extract(epoch FROM change)::bigint::text
  FROM pg_stat_file('${LOCK_FILE}')`;

/**
 * Checks that the connection's server runs on this data directory.
 *
 * @param dataDirectory absolute, without symbolic links
 * @throws ConvoyError `serve_refused` naming both where they do not belong together
 */
export async function attachCluster(
  dataDirectory: string,
  connection: ServerConnection,
): Promise<ServedCluster> {
  const control = await readControlFile(dataDirectory);
  const [facts] = await connection.query(FACTS);
  const [identifier, version, blockSize, segmentSize, statsTempDirectory] = facts ?? [];
  if (BigInt(identifier ?? 0) !== control.systemIdentifier) {
    throw new ConvoyError(
      'serve_refused',
      `data directory "${dataDirectory}" is not the one of the ${connection.server}: ` +
        `system identifier ${control.systemIdentifier} on disk, ${identifier} on the server`,
    );
  }
  await assertSameLockFile(dataDirectory, connection);
  if (Number(blockSize) !== PAGE_BYTES) {
    const message = `the server has pages of ${blockSize} bytes; only ${PAGE_BYTES} are supported`;
    throw new ConvoyError('server_unsupported', message);
  }
  const majorVersion = majorVersionOf(version ?? '');
  return {
    dataDirectory,
    systemIdentifier: control.systemIdentifier,
    majorVersion,
    versionDirectory: `PG_${majorVersion}_${control.catalogVersion}`,
    walSegmentBytes: Number(segmentSize),
    statsTempDirectory: belowDataDirectory(dataDirectory, statsTempDirectory),
  };
}

/** As attachCluster(), for a server that has been checked once and may have been exchanged since. */
export async function assertSameCluster(cluster: ServedCluster, connection: ServerConnection): Promise<void> {
  const now = await attachCluster(cluster.dataDirectory, connection);
  if (now.systemIdentifier === cluster.systemIdentifier && now.majorVersion === cluster.majorVersion) return;
  throw new ConvoyError(
    'serve_refused',
    `data directory "${cluster.dataDirectory}" has been replaced by another`,
    {
      hint: 'restart pgconvoy serve',
    },
  );
}

async function assertSameLockFile(dataDirectory: string, connection: ServerConnection): Promise<void> {
  const file = path.join(dataDirectory, LOCK_FILE);
  const [row] = await connection.query(SERVERS_LOCK_FILE);
  const [content, size, modified, changed] = row ?? [];
  try {
    const [ownContent, stats] = await Promise.all([readFile(file, 'utf8'), stat(file)]);
    const isSame =
      ownContent === content &&
      String(stats.size) === size &&
      String(Math.floor(stats.mtimeMs / 1000)) === modified &&
      String(Math.floor(stats.ctimeMs / 1000)) === changed;
    if (isSame) return;
  } catch (error) {
    const cause = fileError('read file', file, error);
    throw new ConvoyError('serve_refused', cause.message, {
      cause: error,
      hint: `does a server run on data directory "${dataDirectory}"?`,
    });
  }
  throw new ConvoyError(
    'serve_refused',
    `data directory "${dataDirectory}" is not the one of the ${connection.server}: ` +
      `the server sees another "${LOCK_FILE}"`,
    { hint: 'is one of them a copy of the other?' },
  );
}

/** pgstat_stat_directory against DataDir, as in basebackup.c. */
function belowDataDirectory(dataDirectory: string, directory: string | null | undefined): string | undefined {
  if (directory === null || directory === undefined) return undefined;
  const relative = path.relative(dataDirectory, path.resolve(dataDirectory, directory));
  return relative === '' || relative === '..' || relative.startsWith('../') ? undefined : relative;
}
