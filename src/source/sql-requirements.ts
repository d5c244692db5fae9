/*
 * What the sql source needs of a stock server, asked one by one: by `pgconvoy check`, which shows all, and before every
 * backup, which fails with the same words. Each need that is not met comes with what mends it.
 */
import { ConvoyError } from '../errors.js';
import { OLDEST_MAJOR, majorVersionOf } from '../server-version.js';
import type { ServerConnection } from '../wire/connection.js';
import type { Requirement } from './requirement.js';
import { grantExecute, neededFunctions } from './sql-grants.js';
import { checkHeadRoom } from './sql-head-room.js';
import { literal } from './sql-statements.js';
import { checkWalNeeds, isStreamed, type WalNeed } from './sql-wal-needs.js';

export interface RequirementOptions {
  /** Workers of the backup, each with a connection. */
  readonly jobs: number;
  readonly wal: WalNeed;
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
    // the watch has a session of its own, too
    await checkHeadRoom(connection, options.jobs + 1, isStreamed(options.wal) ? 1 : 0),
    await checkFullPageWrites(connection),
    await checkArchiving(connection),
    ...(await checkWalNeeds(connection, options.wal)),
    ...tablespaces,
  ];
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
    remedy: isMet
      ? undefined
      : 'SELECT last_failed_wal, last_failed_time FROM pg_stat_archiver; -- and see the server log',
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
    remedy: isMet ? undefined : "let the server's system account read their directories",
  };
}
