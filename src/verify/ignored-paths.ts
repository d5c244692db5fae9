/*
 * Paths that are not looked at. Source: main() and should_ignore_relpath in PostgreSQL's pg_verifybackup.c: what is no
 * part of the manifest, and what pg_basebackup -R or an administrator changes afterwards.
 */

const ALWAYS_IGNORED = [
  'backup_manifest',
  'pg_wal',
  'postgresql.auto.conf',
  'recovery.signal',
  'standby.signal',
] as const;

export class IgnoredPaths {
  readonly #paths: Set<string>;

  /** @param more relative paths */
  constructor(more: readonly string[]) {
    this.#paths = new Set([...ALWAYS_IGNORED, ...more]);
  }

  /** From now on this path, and what lies below, is ignored too. */
  add(path: string): void {
    this.#paths.add(path);
  }

  /** True for a path that is ignored, or lies below one that is. */
  has(path: string): boolean {
    if (this.#paths.has(path)) return true;
    for (let slash = path.indexOf('/'); slash >= 0; slash = path.indexOf('/', slash + 1)) {
      if (this.#paths.has(path.slice(0, slash))) return true;
    }
    return false;
  }
}
