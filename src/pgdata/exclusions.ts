/*
 * What a base backup leaves out, as pure rules on names; whoever lists a data directory asks them (walk.ts).
 * Source: excludeDirContents, excludeFiles and sendDir in PostgreSQL's src/backend/backup/basebackup.c.
 */

/** Kept as empty directories: their content is removed or made anew when a server starts. */
const EMPTY_DIRECTORIES: ReadonlySet<string> = new Set([
  'pg_stat_tmp',
  'pg_replslot',
  'pg_dynshmem',
  'pg_notify',
  'pg_serial',
  'pg_snapshots',
  'pg_subtrans',
]);

const EXCLUDED_FILES: ReadonlySet<string> = new Set([
  'postgresql.auto.conf.tmp',
  'current_logfiles.tmp',
  'backup_label',
  'tablespace_map',
  'backup_manifest',
  'postmaster.pid',
  'postmaster.opts',
]);

/** Relation cache files and their temporary ones. */
const RELCACHE_PREFIX = 'pg_internal.init';
/** Files and directories of sorts and hashes. */
const TEMPORARY_PREFIX = 'pgsql_tmp';

/** A directory that is listed without its content. */
export function isEmptiedDirectory(name: string): boolean {
  return EMPTY_DIRECTORIES.has(name);
}

/** A file or directory, by its last component, that no list contains, wherever it lies. */
export function isExcludedName(name: string): boolean {
  return name.startsWith(TEMPORARY_PREFIX) || name.startsWith(RELCACHE_PREFIX) || EXCLUDED_FILES.has(name);
}

const RELATION_FILE = /^(\d{1,10})(?:_(fsm|vm|init))?(?:\.(\d+))?$/;

export interface RelationFile {
  /** Text, since that is how it is compared. */
  readonly relationNumber: string;
  readonly fork: 'main' | 'fsm' | 'vm' | 'init';
  readonly segmentNumber: number;
}

/** parse_filename_for_nontemp_relation; undefined for any other name. */
export function parseRelationFileName(name: string): RelationFile | undefined {
  const match = RELATION_FILE.exec(name);
  if (match === null) return undefined;
  return {
    relationNumber: match[1] ?? '',
    fork: (match[2] as RelationFile['fork'] | undefined) ?? 'main',
    segmentNumber: Number(match[3] ?? 0),
  };
}

const TEMPORARY_RELATION = /^t\d+_\d+(?:_(?:fsm|vm|init))?(?:\.\d+)?$/;

/** looks_like_temp_rel_name: t<backend>_<number>. */
export function isTemporaryRelationName(name: string): boolean {
  return TEMPORARY_RELATION.test(name);
}

/** The name of the init fork beside a relation's file; where it exists, the relation is unlogged. */
export function initForkName(relation: RelationFile): string {
  return `${relation.relationNumber}_init`;
}

const DATABASE_DIRECTORY = /^(?:base|PG_\d+_\d+|pg_tblspc\/\d+\/PG_\d+_\d+)\/\d+$/;

/**
 * True for a directory that holds the relations of a database: base/<oid>, or <oid> in a tablespace's version
 * directory. Named relative to the data directory or to the tablespace.
 */
export function isDatabaseDirectory(relativePath: string): boolean {
  return DATABASE_DIRECTORY.test(relativePath);
}
