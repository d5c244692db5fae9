/*
 * What `pgconvoy serve` says of itself as ParameterStatus messages, beside PostgreSQL's own: any client may ignore them, and
 * a server without them is another one, a PostgreSQL with the patch. Said by src/server, heard by src/source.
 */

/** The server behind, said once at login. */
export const SYSTEM_IDENTIFIER_PARAMETER = 'pgconvoy.system_identifier';
/** In UTC, with microseconds; said once at login. */
export const POSTMASTER_START_PARAMETER = 'pgconvoy.postmaster_start_time';
/** Said again and again while a backup runs in the session, in the middle of commands, too: a sign of life. */
export const ALIVE_PARAMETER = 'pgconvoy.alive';
/** The name of the first WAL segment of the session's backup, said once it is gone. */
export const REMOVED_WAL_PARAMETER = 'pgconvoy.removed_wal';
