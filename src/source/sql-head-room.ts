/*
 * Can a backup open its connections? Counts what the server itself counts against max_connections and against the
 * limits of the role and the database. Called by sql-requirements.ts.
 * Source: InitPostgres (src/backend/utils/init/postinit.c), InitializeSessionUserId (miscinit.c), CountUserBackends and
 * CountDBConnections (procarray.c). Parallel workers, autovacuum and walsenders have process slots of their own.
 */
import type { ServerConnection } from '../wire/connection.js';
import { majorVersionOf } from '../server-version.js';
import { quoteIdentifier } from './sql-grants.js';
import type { Requirement } from './requirement.js';

/**
 * A role without the rights of pg_read_all_stats sees who is connected where, but of other roles' sessions not what they
 * are: clients, or parallel workers. Those are counted apart. Before 18 a role's limit counts its walsenders, too.
 */
const HEAD_ROOM = `
  SELECT s.known, s.hidden, pg_catalog.current_setting('max_worker_processes'),
    pg_catalog.current_setting('max_connections'),
    CASE WHEN r.rolsuper THEN 0 ELSE pg_catalog.current_setting('superuser_reserved_connections')::int +
      CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_roles AS g WHERE g.rolname = 'pg_use_reserved_connections'
          AND pg_catalog.pg_has_role(r.oid, g.oid, 'USAGE')) THEN 0
        ELSE COALESCE(pg_catalog.current_setting('reserved_connections', true), '0')::int END END,
    r.rolname, CASE WHEN r.rolsuper OR r.rolconnlimit < 0 THEN NULL ELSE r.rolconnlimit END, s.of_role,
    d.datname, CASE WHEN r.rolsuper OR d.datconnlimit < 0 THEN NULL ELSE d.datconnlimit END, s.of_database
  FROM pg_catalog.pg_roles AS r, pg_catalog.pg_database AS d, LATERAL (
    SELECT pg_catalog.count(*) FILTER (WHERE kind = 'client backend') AS known,
      pg_catalog.count(*) FILTER (WHERE kind IS NULL) AS hidden,
      pg_catalog.count(*) FILTER (WHERE usesysid = r.oid AND (kind = 'client backend' OR kind = 'walsender'
        AND pg_catalog.current_setting('server_version_num')::int < 180000)) AS of_role,
      pg_catalog.count(*) FILTER (WHERE datid = d.oid AND kind = 'client backend') AS of_database
    FROM (SELECT datid, usesysid, backend_type AS kind FROM pg_catalog.pg_stat_activity AS a
      WHERE backend_type IS NOT NULL OR datid IS NOT NULL AND usesysid IS NOT NULL
        AND NOT EXISTS (SELECT FROM pg_catalog.pg_stat_replication AS w WHERE w.pid = a.pid)) AS a) AS s
  WHERE r.rolname = session_user AND d.datname = pg_catalog.current_database()`;

/** One of the limits that a new connection must keep. */
interface Limit {
  readonly free: number;
  /** "on the server", for a message. */
  readonly where: string;
  /** SQL that makes room for so many more. */
  readonly raise: (by: number) => string;
}

/** @param walsenders replication connections beside the jobs; before 18 they count for a role's limit, too */
export async function checkHeadRoom(
  connection: ServerConnection,
  jobs: number,
  walsenders: number,
): Promise<Requirement> {
  const [row = []] = await connection.query(HEAD_ROOM);
  const [known, hidden, workers] = row.slice(0, 3).map(Number) as [number, number, number];
  // not more than so many of those can be workers
  const atLeastUsed = known + Math.max(0, hidden - workers);
  const major = majorVersionOf(connection.parameters.get('server_version') ?? '');
  const ofRole = major < 18 ? walsenders : 0;
  const atMost = tightest(limitsOf(row, atLeastUsed, ofRole));
  const sure = tightest(limitsOf(row, known + hidden, ofRole));
  const name = 'connections';
  if (atMost.free < jobs) {
    const { free, where, raise } = atMost;
    return {
      name,
      isMet: false,
      isNeeded: true,
      finding: `too few connections left ${where}: ${jobs} are needed, ${Math.max(0, free)} are free`,
      remedy: `use fewer jobs (-j), or: ${raise(jobs - free)}`,
    };
  }
  if (sure.free < jobs) {
    return {
      name,
      isMet: false,
      isNeeded: false,
      finding: `${jobs} are needed, ${Math.max(0, sure.free)} or more are free: the role may not see what ${hidden} sessions are`,
      remedy: `GRANT pg_read_all_stats TO ${quoteIdentifier(row[5] ?? '')};`,
    };
  }
  const finding = `${jobs} more can be opened (${sure.free} are free)`;
  return { name, isMet: true, isNeeded: true, finding };
}

/**
 * @param used of the server's connections
 * @param extra connections beside the jobs that the role's limit counts
 */
function limitsOf(row: readonly (string | null)[], used: number, extra: number): Limit[] {
  const [, , , max, reserved, role, roleLimit, ofRole, database, databaseLimit, ofDatabase] = row;
  const limits: Limit[] = [
    {
      free: Number(max) - Number(reserved) - used,
      where: 'on the server',
      raise: (by) => `ALTER SYSTEM SET max_connections = ${Number(max) + by}; -- and restart the server`,
    },
  ];
  const own = [
    { kind: 'role', owner: role, limit: roleLimit, count: Number(ofRole) + extra },
    { kind: 'database', owner: database, limit: databaseLimit, count: Number(ofDatabase) },
  ];
  for (const { kind, owner, limit, count } of own) {
    if (typeof limit !== 'string') continue;
    const name = quoteIdentifier(owner ?? '');
    limits.push({
      free: Number(limit) - count,
      where: `for ${kind} ${name}`,
      raise: (by) => `ALTER ${kind.toUpperCase()} ${name} CONNECTION LIMIT ${Number(limit) + by};`,
    });
  }
  return limits;
}

function tightest(limits: readonly Limit[]): Limit {
  return limits.reduce((least, limit) => (limit.free < least.free ? limit : least));
}
