/* Bounds on everything that a peer sends, each with its reason. Past a bound the peer is not trusted any further. */

const KiB = 1024;
const MiB = 1024 * KiB;

/** PostgreSQL's MAX_STARTUP_PACKET_LENGTH (src/include/libpq/pqcomm.h). */
export const MAX_STARTUP_PACKET_BYTES = 10_000;

/** PG_MAX_AUTH_TOKEN_LENGTH; nobody who has not logged in may send more in one message. */
export const MAX_AUTHENTICATION_MESSAGE_BYTES = 65_535;

/** A replication command; the longest is SEND_BACKUP_FILES, whose paths are bounded by MAXPGPATH each. */
export const MAX_COMMAND_BYTES = 64 * MiB;

/** Any message of a server other than CopyData: a row of the file list, an error, a backup label. */
export const MAX_BACKEND_MESSAGE_BYTES = 16 * MiB;

/** A row of a COPY in text format, and what comes of it at once: a path of MAXPGPATH, all of it escaped, and three short fields. */
export const MAX_TEXT_ROW_BYTES = 64 * KiB;

/** CopyData is passed on in pieces and never held whole, so only the protocol's own limit holds: 1 GiB, as MaxAllocSize. */
export const MAX_COPY_DATA_BYTES = 1024 * MiB;

/** PostgreSQL's MAXPGPATH; a longer path cannot come from a server. */
export const MAX_PATH_BYTES = 1024;

/** The patch and basebackup.c write plain ustar names: 99 bytes and a terminator. */
export const MAX_TAR_NAME_BYTES = 99;

/** Names in front of a tar member, and pax records: of paths of MAXPGPATH, and what a file system keeps besides. */
export const MAX_TAR_EXTENSION_BYTES = 1 * MiB;

/** backup_label and tablespace_map: a label of 1 KiB at most, a path of MAXPGPATH a tablespace. */
export const MAX_LABEL_BYTES = 1 * MiB;

/** WAL segments are 1 MiB to 1 GiB (IsValidWalSegSize in src/include/access/xlog_internal.h). */
export const MIN_WAL_SEGMENT_BYTES = 1 * MiB;
export const MAX_WAL_SEGMENT_BYTES = 1024 * MiB;

/** PG_CONTROL_FILE_SIZE (src/include/catalog/pg_control.h). */
export const CONTROL_FILE_BYTES = 8192;

/** MAX_SEND_SIZE of PostgreSQL's walsender.c is 16 WAL pages, and a server may be built with pages of 64 kB. */
export const MAX_WAL_MESSAGE_BYTES = 1 * MiB;

/** A timeline history file: one short line a timeline; PostgreSQL has no limit, 16 MiB is 100,000 timelines. */
export const MAX_HISTORY_FILE_BYTES = 16 * MiB;

/** WAL of one backup: 100 MB a second for a week. A disk is full long before; without it a server could go on for ever. */
export const MAX_BACKUP_WAL_BYTES = 64 * 1024 * 1024 * MiB;

/** Timeline history files: a switch to a new timeline every hour for a year. */
export const MAX_HISTORY_FILES = 10_000;

/** A server that is to send bytes of files and sends none for so long is taken for gone. */
export const READ_SILENCE_MS = 60_000;

/** A list comes row by row, however large the cluster. */
export const LIST_SILENCE_MS = 600_000;

/** Files and directories of one cluster: what fits into the memory of the client, not what PostgreSQL may have. */
export const MAX_LISTED_ENTRIES = 16_000_000;

/** Result sets of one command: one a tablespace in the longest answer. */
export const MAX_RESULT_SETS = 100_000;

/** Rows that are collected; longer answers are taken row by row. */
export const MAX_COLLECTED_ROWS = 100_000;

/** Warnings of one task that are passed on: a server warns up to seven times of a damaged file. */
export const MAX_TASK_WARNINGS = 10_000;

/** BLCKSZ of every PostgreSQL that pgconvoy reads; a server built with another is refused. */
export const PAGE_BYTES = 8192;

/** RELSEG_SIZE in pages: a relation segment file holds at most this many. */
export const SEGMENT_PAGES = 131_072;

/** A line of a backup manifest names one file, whose path has at most MAXPGPATH bytes, six times as many escaped. */
export const MAX_MANIFEST_LINE_BYTES = 1 * MiB;
