/*
 * What the sql source needs of a stock server, asked one by one: by `pgconvoy check`, which shows all, and before every
 * backup, which fails with the same words. Each need that is not met comes with what mends it.
 */
import { ConvoyError } from '../errors.js';
import { OLDEST_MAJOR, majorVersionOf } from '../server-version.js';
import type { ServerConnection } from '../wire/connection.js';
import { literal } from './sql-statements.js';

export interface Requirement {
  readonly name: string;
  readonly isMet: boolean;
  /** Not met, it makes a backup fail; others are only worth knowing. */
  readonly isNeeded: boolean;
  /** What was found, one line. */
  readonly finding: string;
  /** SQL, or another step, that mends it. */
  readonly remedy?: string | undefined;
}

export interface RequirementOptions {
  /** Connections that a backup would open, beside the one that asks. */
  readonly jobs: number;
  /** WAL is fetched at the end. */
  readonly includeWal: boolean;
}

/** Signatures of the functions that a backup calls. */
export function neededFunctions(major: number): string[] {
  const backup =
    major >= 15
      ? ['pg_backup_start(text, boolean)', 'pg_backup_stop(boolean)']
      : ['pg_start_backup(text, boolean, boolean)', 'pg_stop_backup(boolean, boolean)'];
  return [
    ...backup,
    'pg_ls_dir(text, boolean, boolean)',
    'pg_stat_file(text, boolean)',
    'pg_read_binary_file(text, bigint, bigint, boolean)',
  ];
}

export function quoteIdentifier(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}

/** For a comment: nothing ends its line. */
function oneLine(text: string): string {
  return text.replaceAll(/[\r\n]/g, ' ');
}

function grantExecute(signature: string, role: string): string {
  return `GRANT EXECUTE ON FUNCTION pg_catalog.${signature} TO ${quoteIdentifier(role)};`;
}

/** The whole script that lets a role take backups, for a server of this version. */
export function grantScript(major: number, role: string, database: string): string {
  return [
    `-- PostgreSQL ${major}; run as superuser in database ${oneLine(quoteIdentifier(database))}, the one that pgconvoy connects to`,
    ...neededFunctions(major).map((signature) => grantExecute(signature, role)),
    '-- optional: lets a temporary slot hold the WAL while a backup runs',
    `ALTER ROLE ${quoteIdentifier(role)} REPLICATION;`,
    '-- optional: lets pgconvoy see all settings',
    `GRANT pg_monitor TO ${quoteIdentifier(role)};`,
    '',
  ].join('\n');
}

/** All needs, in the order of showing them. @throws ConvoyError only where the connection fails */
export async function checkRequirements(
  connection: ServerConnection,
  options: RequirementOptions,
): Promise<Requirement[]> {
  const version = connection.parameters.get('server_version') ?? '';
  const major = majorVersionOf(version);
  const functions = await checkFunctions(connection, major);
  const tablespaces = functions.every(({ isMet }) => isMet) ? [await checkTablespaceAccess(connection)] : [];
  return [
    {
      name: 'version',
      isMet: true,
      isNeeded: true,
      finding: `PostgreSQL ${version} (${OLDEST_MAJOR} or newer)`,
    },
    await checkBuild(connection),
    ...functions,
    await checkWalLevel(connection),
    await checkHeadRoom(connection, options.jobs),
    await checkFullPageWrites(connection),
    await checkArchiving(connection),
    await checkSlot(connection, options.includeWal),
    ...tablespaces,
  ];
}

/** @throws ConvoyError `server_error` that says all that is missing, and how to mend it */
export function failUnlessMet(requirements: readonly Requirement[]): void {
  const missing = requirements.filter(({ isMet, isNeeded }) => isNeeded && !isMet);
  if (missing.length === 0) return;
  const remedies = missing.flatMap(({ remedy }) => (remedy === undefined ? [] : [remedy]));
  throw new ConvoyError('server_error', missing.map(({ finding }) => finding).join('; '), {
    hint: remedies.length === 0 ? undefined : remedies.join(' '),
  });
}

async function checkFunctions(connection: ServerConnection, major: number): Promise<Requirement[]> {
  const signatures = neededFunctions(major);
  const columns = signatures.map(
    (signature) => `pg_catalog.has_function_privilege(${literal(`pg_catalog.${signature}`)}, 'EXECUTE')`,
  );
  const [row] = await connection.query(`SELECT current_user, ${columns.join(', ')}`);
  const role = row?.[0] ?? '';
  return signatures.map((signature, index) => {
    const isMet = row?.[index + 1] === 't';
    const name = signature.slice(0, signature.indexOf('('));
    return {
      name: `function ${name}`,
      isMet,
      isNeeded: true,
      finding: isMet ? 'may be executed' : `permission denied for function ${name}`,
      remedy: isMet ? undefined : grantExecute(signature, role),
    };
  });
}

async function checkBuild(connection: ServerConnection): Promise<Requirement> {
  const [row] = await connection.query(
    "SELECT pg_catalog.current_setting('block_size'), pg_catalog.current_setting('segment_size')",
  );
  const [blockSize, segmentSize] = row ?? [];
  const isMet = blockSize === '8192' && segmentSize === '1GB';
  return {
    name: 'build',
    isMet,
    isNeeded: true,
    finding: isMet
      ? 'pages of 8 kB, segments of 1 GB'
      : `the server was built with pages of ${blockSize} bytes and segments of ${segmentSize}, not 8192 and 1GB`,
  };
}

async function checkWalLevel(connection: ServerConnection): Promise<Requirement> {
  const [row] = await connection.query("SELECT pg_catalog.current_setting('wal_level')");
  const level = row?.[0] ?? '';
  const isMet = level !== 'minimal';
  return {
    name: 'wal_level',
    isMet,
    isNeeded: true,
    finding: isMet ? level : 'WAL level not sufficient for making an online backup: wal_level is "minimal"',
    remedy: isMet ? undefined : "ALTER SYSTEM SET wal_level = 'replica'; -- and restart the server",
  };
}

async function checkHeadRoom(connection: ServerConnection, jobs: number): Promise<Requirement> {
  // reserved_connections came with PostgreSQL 16
  const [row] = await connection.query(
    `SELECT pg_catalog.current_setting('max_connections')::int
       - (SELECT pg_catalog.sum(numbackends) FROM pg_catalog.pg_stat_database)::int
       - CASE WHEN r.rolsuper THEN 0 ELSE pg_catalog.current_setting('superuser_reserved_connections')::int
           + COALESCE(pg_catalog.current_setting('reserved_connections', true), '0')::int END,
       CASE WHEN r.rolsuper OR r.rolconnlimit < 0 THEN NULL ELSE r.rolconnlimit - 1 END
     FROM pg_catalog.pg_roles AS r WHERE r.rolname = current_user`,
  );
  const free = Number(row?.[0] ?? 0);
  const limit = typeof row?.[1] === 'string' ? Number(row[1]) : Number.POSITIVE_INFINITY;
  const available = Math.max(0, Math.min(free, limit));
  const isMet = available >= jobs;
  return {
    name: 'connections',
    isMet,
    isNeeded: true,
    finding: isMet
      ? `${jobs} more can be opened (${available} are free)`
      : `too few connections left on the server: ${jobs} are needed, ${available} are free`,
    remedy: isMet
      ? undefined
      : 'use fewer jobs (-j), or raise max_connections or the connection limit of the role',
  };
}

async function checkFullPageWrites(connection: ServerConnection): Promise<Requirement> {
  const [row] = await connection.query(
    `SELECT pg_catalog.pg_is_in_recovery(), pg_catalog.current_setting('full_page_writes'),
       (SELECT full_page_writes FROM pg_catalog.pg_control_checkpoint())`,
  );
  const [inRecovery, setting, ofPrimary] = row ?? [];
  const isMet = inRecovery === 'f' || ofPrimary === 't';
  const finding = inRecovery === 'f' && setting === 'off' ? 'off, but forced on while a backup runs' : 'on';
  return {
    name: 'full_page_writes',
    isMet,
    isNeeded: true,
    finding: isMet ? finding : 'WAL on the standby was generated with full_page_writes=off',
    remedy: isMet
      ? undefined
      : 'ALTER SYSTEM SET full_page_writes = on; -- on the primary, then reload it and CHECKPOINT',
  };
}

async function checkArchiving(connection: ServerConnection): Promise<Requirement> {
  const [row] = await connection.query(
    `SELECT pg_catalog.current_setting('archive_mode'),
       COALESCE((SELECT last_failed_time > COALESCE(last_archived_time, '-infinity') FROM pg_catalog.pg_stat_archiver), false)`,
  );
  const [mode, isFailing] = row ?? [];
  const isMet = mode === 'off' || isFailing === 'f';
  return {
    name: 'archiving',
    isMet,
    isNeeded: false,
    finding: isMet
      ? `archive_mode is ${mode ?? 'unknown'}`
      : 'the archiver is failing; a backup with -X none would wait for it',
    remedy: isMet ? undefined : 'see last_failed_wal in pg_stat_archiver and the server log',
  };
}

async function checkSlot(connection: ServerConnection, includeWal: boolean): Promise<Requirement> {
  const [row] = await connection.query(
    `SELECT current_user, r.rolreplication OR r.rolsuper,
       pg_catalog.current_setting('max_replication_slots')::int - (SELECT pg_catalog.count(*) FROM pg_catalog.pg_replication_slots)
     FROM pg_catalog.pg_roles AS r WHERE r.rolname = current_user`,
  );
  const [role, mayReplicate, free] = row ?? [];
  const isMet = mayReplicate === 't' && Number(free) > 0;
  const why = mayReplicate === 't' ? 'no replication slot is free' : 'the role lacks REPLICATION';
  const consequence = includeWal ? '; a backup fails if the server recycles WAL that it needs' : '';
  return {
    name: 'slot',
    isMet,
    isNeeded: false,
    finding: isMet ? 'a temporary slot can hold the WAL' : `${why}: no slot can hold the WAL${consequence}`,
    remedy: mayReplicate === 't' ? undefined : `ALTER ROLE ${quoteIdentifier(role ?? '')} REPLICATION;`,
  };
}

async function checkTablespaceAccess(connection: ServerConnection): Promise<Requirement> {
  const rows = await connection.query(
    "SELECT oid, spcname FROM pg_catalog.pg_tablespace WHERE spcname NOT IN ('pg_default', 'pg_global')",
  );
  const unreadable: string[] = [];
  for (const [oid, name] of rows) {
    try {
      // oxlint-disable-next-line eslint/no-await-in-loop
      await connection.query('SELECT 1 FROM pg_catalog.pg_ls_dir($1, true, false) LIMIT 1', [
        `pg_tblspc/${oid}`,
      ]);
    } catch (error) {
      if (!(error instanceof ConvoyError) || error.code !== 'server_error') throw error;
      unreadable.push(`"${name ?? ''}" (${error.message})`);
    }
  }
  const isMet = unreadable.length === 0;
  return {
    name: 'tablespaces',
    isMet,
    isNeeded: true,
    finding: isMet ? `${rows.length} can be read` : `tablespaces cannot be read: ${unreadable.join(', ')}`,
  };
}
