/*
 * The place that one backup goes to, from the first check to the last rename: a directory with its tablespaces and its
 * manifest, or nothing at all (-t blackhole). Held by backup.ts, which says when.
 */
import type { CopyTools } from '../copy/paced-file.js';
import type { ChecksumAlgorithm } from '../checksum.js';
import { type ManifestFile, manifestVersionOf, type WalRange } from '../manifest/manifest.js';
import { ManifestWriter } from '../manifest/manifest-writer.js';
import { BACKUP_LABEL_PATH } from '../pgdata/backup-label.js';
import { AUTO_CONF_PATH, STANDBY_SIGNAL_PATH } from '../pgdata/recovery-settings.js';
import type { FileList, SourceServer, SourceTablespace } from '../source/source.js';
import { DirectoryTarget, refuseUnlessEmpty, type OwnDirectory } from '../target/directory-target.js';
import { resolveInDirectory } from '../target/directory-writer.js';
import { refuseUnlessRoom } from '../target/free-space.js';
import { mapTablespaces } from '../target/tablespace-mapping.js';
import { syncFileSystems } from '../target/sync-file-systems.js';
import type { DirectoryTargetSpec, TargetSpec } from '../target/target.js';
import type { TargetOptions } from './backup-options.js';
import { spaceNeeds } from './space-needs.js';
import { writeWhole } from './stop-files.js';

export interface PrepareOptions {
  readonly server: SourceServer;
  readonly tablespaces: readonly SourceTablespace[];
  readonly list: FileList;
  /** WAL comes along at the end. */
  readonly includeWal: boolean;
  /** Undefined: no manifest. */
  readonly manifestChecksums: ChecksumAlgorithm | undefined;
  readonly encodeManifestPaths: boolean;
  /** For the end of postgresql.auto.conf; undefined: the backup is no standby. */
  readonly recoverySettings: string | undefined;
}

export class BackupTarget {
  readonly #options: TargetOptions;
  readonly #warn: (message: string) => void;
  #spec: TargetSpec = { kind: 'blackhole' };
  #directory: DirectoryTarget | undefined;
  #manifest: ManifestWriter | undefined;
  #fileMode = 0o600;

  /** @throws ConvoyError `target_refused` unless nothing is there, or an empty directory */
  constructor(options: TargetOptions, warn: (message: string) => void) {
    this.#options = options;
    this.#warn = warn;
    if (options.kind === 'blackhole') return;
    refuseUnlessEmpty(options.directory);
    if (options.walDirectory !== undefined) refuseUnlessEmpty(options.walDirectory);
  }

  /** Makes all directories and begins the manifest. @throws ConvoyError `target_refused`, `target_io` */
  prepare(options: PrepareOptions): TargetSpec {
    if (this.#options.kind === 'blackhole') return this.#spec;
    const { server, tablespaces, list, includeWal, recoverySettings } = options;
    const { directory, tablespaceMappings, walDirectory } = this.#options;
    const spec: DirectoryTargetSpec = {
      kind: 'directory',
      directory,
      tablespaces: mapTablespaces(tablespaces, tablespaceMappings, 'the server', this.#warn),
      walDirectory,
      addedText:
        recoverySettings === undefined ? undefined : [{ path: AUTO_CONF_PATH, text: recoverySettings }],
    };
    this.#spec = spec;
    // a segment at the least
    refuseUnlessRoom(spaceNeeds(spec, list.files, includeWal ? server.walSegmentBytes : 0));
    this.#directory = new DirectoryTarget(spec);
    this.#directory.prepare(server.directoryMode, list.directories);
    // as the server's own files: the group may read them where it may read the directory
    this.#fileMode = server.directoryMode & 0o666;
    const { manifestChecksums: algorithm, encodeManifestPaths: encodePaths } = options;
    if (algorithm !== undefined) {
      const { major, systemIdentifier } = server;
      const version = manifestVersionOf(major);
      this.#manifest = new ManifestWriter({
        directory,
        version,
        systemIdentifier,
        algorithm,
        encodePaths,
        mode: this.#fileMode,
      });
    }
    return spec;
  }

  addToManifest(file: ManifestFile): void {
    this.#manifest?.addFile(file);
  }

  /** A file that turned out to be gone on the server when a part of it was written. */
  removeFile(path: string): void {
    this.#directory?.removeFile(path);
  }

  writeLabel(tools: CopyTools, text: string): void {
    const file = { path: BACKUP_LABEL_PATH, mode: this.#fileMode, mtime: Math.floor(Date.now() / 1000) };
    this.addToManifest(writeWhole(tools, file, Buffer.from(text)));
  }

  /**
   * What makes a standby of it, beside the settings; not in the manifest, as pg_basebackup has it.
   *
   * @returns paths of what was written
   */
  writeStandbyFiles(tools: CopyTools, list: FileList): string[] {
    const hasSettings = list.files.some(({ target }) => target === AUTO_CONF_PATH);
    const paths = hasSettings ? [STANDBY_SIGNAL_PATH] : [AUTO_CONF_PATH, STANDBY_SIGNAL_PATH];
    for (const path of paths) {
      const mtime = Math.floor(Date.now() / 1000);
      writeWhole(tools, { path, mode: this.#fileMode, mtime }, Buffer.alloc(0));
    }
    return paths;
  }

  /** Makes files (relative paths) durable with `syncFiles`, then the directories. */
  async sync(
    paths: readonly string[],
    syncFiles: (absolute: readonly string[]) => Promise<void>,
  ): Promise<void> {
    const spec = this.#spec;
    if (spec.kind !== 'directory') return;
    await syncFiles(paths.map((path) => resolveInDirectory(spec, path)));
    this.#directory?.syncDirectories();
  }

  /** Makes all that was written durable, files and directories, file system by file system. */
  async syncFileSystems(): Promise<void> {
    await syncFileSystems(this.directories.map(({ directory }) => directory));
  }

  /** The manifest gets its name, last of all: the backup is complete. */
  finish(range: WalRange, sync: boolean): void {
    this.#manifest?.finish([range], sync);
    if (sync) this.#directory?.syncDirectories();
  }

  /** What `remove` would empty. */
  get directories(): readonly OwnDirectory[] {
    return this.#directory?.directories ?? [];
  }

  /** Gives up what is open. */
  close(): void {
    this.#manifest?.[Symbol.dispose]();
  }

  /** Removes all that was made, and only that. @throws ConvoyError `target_io` */
  async remove(): Promise<void> {
    await this.#directory?.remove();
  }
}
