/*
 * The SQL that the sql source speaks, release by release; its functions and their grants stand in sql-grants.ts.
 * Every function is called with its schema, since the session's search_path is empty.
 */

/** Quotes a string for a statement that cannot take parameters (COPY); standard_conforming_strings is on. */
export function literal(text: string): string {
  return `'${text.replaceAll("'", "''")}'`;
}

/** Settings that would end a long session, or make it write, where the release has them. */
export const SESSION_SETTINGS: readonly (readonly [name: string, value: string])[] = [
  ['search_path', ''],
  ['standard_conforming_strings', 'on'],
  ['default_transaction_read_only', 'on'],
  ['statement_timeout', '0'],
  ['lock_timeout', '0'],
  ['idle_in_transaction_session_timeout', '0'],
  ['idle_session_timeout', '0'],
  ['transaction_timeout', '0'],
  ['bytea_output', 'hex'],
  // the names of files are bytes: no conversion to or from the encoding of the database
  ['client_encoding', 'SQL_ASCII'],
];

/**
 * The backup ends with its client, even while it waits for a checkpoint or the archive. Not in PostgreSQL 13, and refused
 * where the server's system cannot tell that a client is gone: both are as good as not asked.
 */
export const CONNECTION_CHECK = "SET client_connection_check_interval = '1s'";

/** Sets those settings that exist; a statement without parameters. */
export function sessionSettingsStatement(): string {
  const rows = SESSION_SETTINGS.map(([name, value]) => `(${literal(name)}, ${literal(value)})`).join(', ');
  return (
    `SELECT pg_catalog.set_config(s.name, s.value, false) FROM (VALUES ${rows}) AS s(name, value) ` +
    'WHERE s.name IN (SELECT g.name FROM pg_catalog.pg_settings AS g)'
  );
}

/** Facts of the server, as text: NULL where this role may not know. */
export const SERVER_FACTS = `SELECT
  pg_catalog.pg_size_bytes(pg_catalog.current_setting('wal_segment_size')),
  pg_catalog.current_setting('data_directory_mode'),
  pg_catalog.current_setting('data_checksums'),
  (SELECT setting FROM pg_catalog.pg_settings WHERE name = 'stats_temp_directory')`;

/** The timeline that the end of the backup is on; a standby's last checkpoint may be on an older one. */
export const CURRENT_TIMELINE = `SELECT COALESCE(
  CASE WHEN pg_catalog.pg_is_in_recovery()
    THEN (SELECT NULLIF(min_recovery_end_timeline, 0) FROM pg_catalog.pg_control_recovery()) END,
  (SELECT timeline_id FROM pg_catalog.pg_control_checkpoint()))`;

/** Oid and location; those that every cluster has, pg_default and pg_global, have none. */
export const TABLESPACES =
  "SELECT t.oid, l FROM pg_catalog.pg_tablespace AS t, pg_catalog.pg_tablespace_location(t.oid) AS l WHERE l <> ''";

/** A slot of this session that reserves WAL at once; no row where none is to be had. */
export function holdWal(slot: string): string {
  // idle_replication_slot_timeout (18) would end the session that has the slot
  return (
    `SELECT pg_catalog.pg_create_physical_replication_slot(${literal(slot)}, true, true) ` +
    "WHERE COALESCE(pg_catalog.current_setting('idle_replication_slot_timeout', true), '0') = '0'"
  );
}

/**
 * $1 a file of pg_wal or NULL, $2 a process: whether the file is there, whether the server is in recovery, the highest timeline
 * of all files in pg_wal, and what the process does: NULL where it is gone, "idle" where it waits for us.
 */
export const WATCH = `SELECT $1::text IS NULL OR (pg_catalog.pg_stat_file($1, true)).size IS NOT NULL,
    pg_catalog.pg_is_in_recovery(),
    (SELECT pg_catalog.max(pg_catalog."left"(n, 8)) FROM pg_catalog.pg_ls_dir('pg_wal', true, false) AS n
      WHERE n ~ '^[0-9A-F]{8}([0-9A-F]{16}|[.]history)$'),
    CASE WHEN a.wait_event = 'ClientWrite' THEN 'idle' WHEN a.pid IS NOT NULL THEN COALESCE(a.state, 'unknown') END
    FROM (SELECT 1) AS one LEFT JOIN pg_catalog.pg_stat_activity AS a ON a.pid = $2`;

/** $1 label, $2 fast: the start position. */
export function startStatement(major: number): string {
  return major >= 15
    ? 'SELECT pg_catalog.pg_backup_start($1, $2)'
    : 'SELECT pg_catalog.pg_start_backup($1, $2, false)';
}

/** $1 wait for the archive: end position, backup_label, tablespace_map. */
export function stopStatement(major: number): string {
  return major >= 15
    ? 'SELECT lsn, labelfile, spcmapfile FROM pg_catalog.pg_backup_stop($1)'
    : 'SELECT lsn, labelfile, spcmapfile FROM pg_catalog.pg_stop_backup(false, $1)';
}

/** A regular expression (of both PostgreSQL and JavaScript) for directories that are listed without their content. */
const EMPTIED =
  '(^|/)(pg_stat_tmp|pg_replslot|pg_dynshmem|pg_notify|pg_serial|pg_snapshots|pg_subtrans|pgsql_tmp[^/]*)$';

/**
 * The data directory with its tablespaces, parents before children: path, whether it is a directory, size in bytes,
 * modification time in seconds. Exclusions below a directory are left to the client, but whole directories that no
 * backup contains are not gone into. In text format. (EXTRACT is numeric from PostgreSQL 14 on, and slower.)
 */
export function listStatement(versionDirectory: string): string {
  const entry = (path: string, directory: string): string =>
    `SELECT ${path} AS path, s.isdir, s.size, s.modification FROM ${directory}, ` +
    `LATERAL pg_catalog.pg_stat_file(${path}, true) AS s(size, access, modification, change, creation, isdir)`;
  return `COPY (WITH RECURSIVE entry AS (
    ${entry('n', "pg_catalog.pg_ls_dir('.', true, false) AS n")}
    UNION ALL
    ${entry("e.path || '/' || n", 'entry AS e, LATERAL pg_catalog.pg_ls_dir(e.path, true, false) AS n')}
    WHERE e.isdir AND e.path <> 'pg_wal' AND e.path !~ ${literal(EMPTIED)}
      AND (e.path !~ '^pg_tblspc/[0-9]+/' OR e.path ~ ${literal(`^pg_tblspc/[0-9]+/${versionDirectory}(/|$)`)})
  )
  SELECT path, isdir, size, pg_catalog.floor(pg_catalog.date_part('epoch', modification))::bigint FROM entry WHERE isdir IS NOT NULL)
  TO STDOUT`;
}

/** A part of a file, read in rows of one chunk each. */
export interface ReadRange {
  readonly path: string;
  /** Where to begin; bytes. */
  readonly offset: number;
  /** Bytes to read from there; 0 still reads one row, which tells whether the file exists. */
  readonly length: number;
}

/**
 * Rows of (number of the range, offset, bytes or NULL where the file is gone), range after range, in binary. Arrays, as a list of
 * VALUES costs the server as much as the reading of small files.
 */
export function readStatement(ranges: readonly ReadRange[], chunkBytes: number): string {
  const paths = ranges.map(({ path }) => `"${path.replaceAll(/["\\]/g, String.raw`\$&`)}"`);
  const starts = ranges.map(({ offset }) => offset);
  const ends = ranges.map(({ offset, length }) => offset + Math.max(length, 1));
  const unnest = (values: readonly (string | number)[], type: string): string =>
    `pg_catalog.unnest(${literal(`{${values.join(',')}}`)}::${type}[])`;
  return (
    'COPY (SELECT (f.i - 1)::int4, g.o, ' +
    `pg_catalog.pg_read_binary_file(f.p, g.o, LEAST(${chunkBytes}::bigint, f.e - g.o), true) ` +
    `FROM ROWS FROM (${unnest(paths, 'text')}, ${unnest(starts, 'int8')}, ${unnest(ends, 'int8')}) ` +
    'WITH ORDINALITY AS f(p, s, e, i), ' +
    `LATERAL pg_catalog.generate_series(f.s, f.e - 1, ${chunkBytes}::bigint) AS g(o)) TO STDOUT (FORMAT binary)`
  );
}
