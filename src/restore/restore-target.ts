/*
 * The place that one restore goes to, from the first check to the last sync. Held by restore.ts, which says when.
 */
import { chmodSync, statSync, writeFileSync } from 'node:fs';
import type { BackupManifest } from '../manifest/manifest.js';
import { ManifestWriter } from '../manifest/manifest-writer.js';
import { fileError } from '../errors.js';
import { AUTO_CONF_PATH, RECOVERY_SIGNAL_PATH, STANDBY_SIGNAL_PATH } from '../pgdata/recovery-settings.js';
import { TABLESPACE_MAP_PATH } from '../pgdata/tablespace-map.js';
import { DirectoryTarget, refuseUnlessEmpty } from '../target/directory-target.js';
import { isLinked, resolveInDirectory, syncPaths } from '../target/directory-writer.js';
import { refuseUnlessRoom } from '../target/free-space.js';
import { mapTablespaces } from '../target/tablespace-mapping.js';
import type { DirectoryTargetSpec } from '../target/target.js';
import type { BackupContent } from './backup-content.js';
import { algorithmOf } from './manifest-check.js';
import { formatRecovery, signalPath } from './recovery.js';
import type { RestoreOptions } from './restore-options.js';

const OWNER_MODE = 0o600;
const GROUP_READ = 0o040;
/** PG_DIR_MODE_OWNER, and what PG_DIR_MODE_GROUP adds: with more than these no server starts (checkDataDir). */
const OWNER_DIRECTORY_MODE = 0o700;
const GROUP_PASSES = 0o050;
const PERMISSIONS = 0o777;

export class RestoreTarget {
  readonly #options: RestoreOptions;
  readonly #spec: DirectoryTargetSpec;
  readonly #directory: DirectoryTarget;
  /** Written by this one itself, absolute. */
  readonly #ownFiles: string[] = [];
  /** Permission bits of directories that were there, by absolute path. */
  readonly #formerModes = new Map<string, number>();

  /** @throws ConvoyError `target_refused` unless nothing is there, or empty directories */
  constructor(options: RestoreOptions, { tablespaces }: BackupContent, warn: (message: string) => void) {
    const { directory, tablespaceMappings, walDirectory, recovery } = options;
    this.#options = options;
    this.#spec = {
      kind: 'directory',
      directory,
      tablespaces: mapTablespaces(tablespaces, tablespaceMappings, 'the backup', warn),
      walDirectory,
      addedText:
        recovery === undefined ? undefined : [{ path: AUTO_CONF_PATH, text: formatRecovery(recovery) }],
    };
    this.#directory = new DirectoryTarget(this.#spec);
    for (const { location } of this.#spec.tablespaces) refuseUnlessEmpty(location);
  }

  get spec(): DirectoryTargetSpec {
    return this.#spec;
  }

  /** Absolute path of the data directory, tablespaces and WAL in use: what `remove` would empty. */
  get directories(): DirectoryTarget['directories'] {
    return this.#directory.directories;
  }

  /**
   * Makes the data directory, all that is known to be in it, and the links.
   *
   * @param files names and sizes of what is to come @throws ConvoyError `target_refused`, `target_io`
   */
  prepare(content: BackupContent, files: readonly { readonly path: string; readonly size: number }[]): void {
    this.#refuseUnlessRoom(files);
    const listed = content.directories.filter(({ target }) => !isLinked(this.#spec, target));
    const links = this.#spec.tablespaces.length > 0 ? [{ target: 'pg_tblspc', mode: 0o700 }] : [];
    const isListed = listed.some(({ target }) => target === 'pg_tblspc');
    const rootMode = OWNER_DIRECTORY_MODE | ((content.rootMode ?? 0) & GROUP_PASSES);
    this.#noteModes();
    this.#directory.prepare(rootMode, isListed ? listed : [...links, ...listed]);
    this.#setRootModes(rootMode);
  }

  /** What an archive does not tell: the group may pass where it may read the files. @throws ConvoyError `target_io` */
  openToGroup(): void {
    const versionFile = `${this.#spec.directory}/PG_VERSION`;
    let mode: number;
    try {
      ({ mode } = statSync(versionFile));
    } catch (error) {
      throw fileError('stat file', versionFile, error);
    }
    if ((mode & GROUP_READ) !== 0) this.#setRootModes(OWNER_DIRECTORY_MODE | GROUP_PASSES);
  }

  /** What a recovery needs besides the backup's own files. @throws ConvoyError `target_io` */
  writeRecovery(hasAutoConf: boolean): void {
    const { recovery } = this.#options;
    if (recovery === undefined) return;
    // how the backup's own cluster was to recover does not count
    for (const path of [RECOVERY_SIGNAL_PATH, STANDBY_SIGNAL_PATH]) this.removeFile(path);
    this.#writeFile(signalPath(recovery), '');
    if (!hasAutoConf) this.#writeFile(AUTO_CONF_PATH, formatRecovery(recovery));
  }

  /**
   * The manifest of a plain backup: its tablespaces are linked, and tablespace_map, which would lead the server to where
   * they once were, is not restored.
   *
   * @throws ConvoyError `target_io`
   */
  writeManifest(manifest: BackupManifest, mode: number): void {
    const { version, systemIdentifier = 0n, files, walRanges } = manifest;
    const { directory } = this.#spec;
    const algorithm = algorithmOf(manifest);
    const options = { directory, version, systemIdentifier, algorithm, mode, encodePaths: false };
    using writer = new ManifestWriter(options);
    for (const file of files.values()) if (file.path !== TABLESPACE_MAP_PATH) writer.addFile(file);
    writer.finish(walRanges, this.#options.sync);
  }

  /** Where it is there. @throws ConvoyError `target_io` */
  removeFile(path: string): void {
    this.#directory.removeFile(path);
  }

  absolute(path: string): string {
    return resolveInDirectory(this.#spec, path);
  }

  /** @param directories that were made besides those of `prepare`, relative @throws ConvoyError `target_io` */
  syncDirectories(directories: readonly string[]): void {
    syncPaths(this.#ownFiles);
    syncPaths(directories.map((directory) => this.absolute(directory)));
    this.#directory.syncDirectories();
  }

  /** Removes all that was made; directories that were there are empty again, and as they were. */
  async remove(): Promise<void> {
    await this.#directory.remove();
    for (const [directory, mode] of this.#formerModes) setMode(directory, mode);
  }

  #noteModes(): void {
    const { directory, walDirectory, tablespaces } = this.#spec;
    for (const root of [directory, walDirectory, ...tablespaces.map(({ location }) => location)]) {
      const stats = root === undefined ? undefined : statSync(root, { throwIfNoEntry: false });
      if (root !== undefined && stats !== undefined) this.#formerModes.set(root, stats.mode & PERMISSIONS);
    }
  }

  /** Of the data directory, the tablespaces and the WAL; also where they were there, as initdb and CREATE TABLESPACE do. */
  #setRootModes(mode: number): void {
    for (const { directory } of this.#directory.directories) setMode(directory, mode);
  }

  #writeFile(path: string, text: string): void {
    const absolute = this.absolute(path);
    try {
      writeFileSync(absolute, text, { mode: OWNER_MODE });
    } catch (error) {
      throw fileError('write file', absolute, error);
    }
    this.#ownFiles.push(absolute);
  }

  #refuseUnlessRoom(files: readonly { readonly path: string; readonly size: number }[]): void {
    const { directory, walDirectory, tablespaces } = this.#spec;
    const roots = [
      ...tablespaces.map(({ oid, location }) => ({ prefix: `pg_tblspc/${oid}/`, directory: location })),
      ...(walDirectory === undefined ? [] : [{ prefix: 'pg_wal/', directory: walDirectory }]),
      { prefix: '', directory },
    ].map((root) => ({ ...root, bytes: 0 }));
    for (const { path, size } of files) {
      const root = roots.find(({ prefix }) => path.startsWith(prefix));
      if (root !== undefined) root.bytes += size;
    }
    refuseUnlessRoom(roots);
  }
}

/** A directory of somebody else may have it already. @throws ConvoyError `target_io` */
function setMode(directory: string, mode: number): void {
  try {
    if ((statSync(directory).mode & PERMISSIONS) !== mode) chmodSync(directory, mode);
  } catch (error) {
    throw fileError('set permissions of directory', directory, error);
  }
}
