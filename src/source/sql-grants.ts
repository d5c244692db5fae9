/*
 * What a role that is no superuser must be granted to take backups over plain SQL, release by release. Asked by
 * sql-requirements.ts, and printed by `pgconvoy check --print-grants`.
 */

/** Signatures of the functions that a backup calls and that are not everybody's. */
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

export function grantExecute(signature: string, role: string): string {
  return `GRANT EXECUTE ON FUNCTION pg_catalog.${signature} TO ${quoteIdentifier(role)};`;
}

export function grantReplication(role: string): string {
  return `ALTER ROLE ${quoteIdentifier(role)} REPLICATION;`;
}

/** The whole script that lets a role take backups, for a server of this version. */
export function grantScript(major: number, role: string, database: string): string {
  return [
    `-- PostgreSQL ${major}; run as superuser in database ${oneLine(quoteIdentifier(database))}, the one that pgconvoy connects to`,
    ...neededFunctions(major).map((signature) => grantExecute(signature, role)),
    '-- optional: needed for -X stream, the default; with -X fetch it lets a temporary slot hold the WAL',
    grantReplication(role),
    '-- optional: lets pgconvoy see all settings, and all sessions',
    `GRANT pg_monitor TO ${quoteIdentifier(role)};`,
    '',
  ].join('\n');
}

/** For a comment: nothing ends its line. */
function oneLine(text: string): string {
  return text.replaceAll(/[\r\n]/g, ' ');
}
