/*
 * The place that one backup goes to, from the first check to the last rename: a directory with its tablespaces and its
 * manifest, tar archives, or nothing at all (-t blackhole). Held by backup-run.ts, which says when.
 */
import { assertNever } from '../assert-never.js';
import type { ChecksumAlgorithm } from '../checksum.js';
import type { CopyTools } from '../copy/paced-file.js';
import { ConvoyError } from '../errors.js';
import type { FileOwner } from '../file-owner.js';
import type { VanishedFile } from '../copy/range-assembly.js';
import { type ManifestFile, manifestVersionOf, type WalRange } from '../manifest/manifest.js';
import { BACKUP_LABEL_PATH } from '../pgdata/backup-label.js';
import { AUTO_CONF_PATH, STANDBY_SIGNAL_PATH } from '../pgdata/recovery-settings.js';
import { formatTablespaceMap, TABLESPACE_MAP_PATH } from '../pgdata/tablespace-map.js';
import type { FileList, SourceServer, SourceTablespace } from '../source/source.js';
import type { AddedText } from '../target/added-text.js';
import { archiveCount } from '../target/archive-layout.js';
import { createArchiveState } from '../target/archive-state.js';
import { ArchiveTarget } from '../target/archive-target.js';
import { openCompressor } from '../target/compression/open-compressor.js';
import { DirectoryTarget, type OwnDirectory } from '../target/directory-target.js';
import { resolveInDirectory } from '../target/directory-writer.js';
import { refuseUnlessRoom } from '../target/free-space.js';
import { openTarget } from '../target/open-target.js';
import { mapTablespaces } from '../target/tablespace-mapping.js';
import { syncFileSystems } from '../target/sync-file-systems.js';
import type {
  ArchiveStretch,
  ArchiveTargetSpec,
  DirectoryTargetSpec,
  Target,
  TargetSpec,
} from '../target/target.js';
import { WalArchive } from '../target/wal-archive.js';
import { BackupManifest } from './backup-manifest.js';
import type { TargetOptions } from './backup-options.js';
import { archiveNeeds, spaceNeeds } from './space-needs.js';
import { writeWhole } from './stop-files.js';

export interface PrepareOptions {
  readonly server: SourceServer;
  readonly tablespaces: readonly SourceTablespace[];
  readonly list: FileList;
  /** Numbers that the plan has given to files: slotCount. */
  readonly slots: number;
  /** WAL comes along at the end. */
  readonly includeWal: boolean;
  /** Undefined: no manifest. */
  readonly manifestChecksums: ChecksumAlgorithm | undefined;
  readonly encodeManifestPaths: boolean;
  /** For the end of postgresql.auto.conf; undefined: the backup is no standby. */
  readonly recoverySettings: string | undefined;
}

type DirectoryOptions = Extract<TargetOptions, { kind: 'directory' }>;
type ArchiveOptions = Extract<TargetOptions, { kind: 'archive' }>;

export class BackupTarget {
  readonly #options: TargetOptions;
  readonly #warn: (message: string) => void;
  #spec: TargetSpec = { kind: 'blackhole' };
  #files: Target | undefined;
  #directory: DirectoryTarget | undefined;
  #archives: ArchiveTarget | undefined;
  #walArchive: WalArchive | undefined;
  #manifest: BackupManifest | undefined;
  #algorithm: ChecksumAlgorithm = 'NONE';
  /** Those that nothing but tablespace_map leads to. */
  #unlinked: readonly SourceTablespace[] = [];
  #majorVersion = 0;
  #fileMode = 0o600;
  /** Of the files that are made here; undefined: not known. */
  #owner: FileOwner | undefined;
  #hasManifestInside = false;

  /** @throws ConvoyError `target_refused` unless the compression is at hand */
  constructor(options: TargetOptions, warn: (message: string) => void) {
    this.#options = options;
    this.#warn = warn;
    if (options.kind === 'archive') openCompressor(options.compression);
  }

  /** Makes all directories, or archives, and begins the manifest. @throws ConvoyError `target_refused`, `target_io` */
  async prepare(options: PrepareOptions): Promise<TargetSpec> {
    const { server, manifestChecksums, encodeManifestPaths } = options;
    // as the server's own files: the group may read them where it may read the directory
    this.#fileMode = server.directoryMode & 0o666;
    this.#algorithm = manifestChecksums ?? 'NONE';
    switch (this.#options.kind) {
      case 'directory':
        this.#spec = this.#prepareDirectory(this.#options, options);
        break;
      case 'archive':
        this.#spec = await this.#prepareArchives(this.#options, options);
        break;
      case 'blackhole':
        return this.#spec;
      default:
        return assertNever(this.#options);
    }
    if (manifestChecksums !== undefined) {
      const { directory } = this.#options;
      this.#hasManifestInside = directory === undefined;
      this.#manifest = new BackupManifest({
        directory,
        version: manifestVersionOf(server.major),
        systemIdentifier: server.systemIdentifier,
        algorithm: manifestChecksums,
        encodePaths: encodeManifestPaths,
        mode: this.#fileMode,
      });
    }
    return this.#spec;
  }

  /** Where the coordinator writes the files that are its own. */
  get files(): Target {
    this.#files ??= this.#archives?.files ?? openTarget(this.#spec);
    return this.#files;
  }

  /**
   * Where streamed WAL goes, once prepared: pg_wal, or an archive of its own. None of it is in the manifest.
   *
   * @throws ConvoyError `target_io`
   */
  openWalFiles(): { readonly target: Target; readonly fileMode: number } {
    const spec = this.#spec;
    if (spec.kind !== 'archive') return { target: openTarget(spec), fileMode: this.#fileMode };
    this.#walArchive = new WalArchive(spec, this.#fileMode);
    return { target: this.#walArchive, fileMode: this.#fileMode };
  }

  addToManifest(file: ManifestFile): void {
    this.#manifest?.add(file);
  }

  /**
   * A file that turned out to be gone on the server, perhaps when a part of it was written.
   *
   * @returns what an archive keeps of it, for the manifest
   */
  settleVanished({ path: file, mtime, slot }: VanishedFile): ManifestFile | undefined {
    this.#directory?.removeFile(file);
    const held = this.#archives?.heldFile(file, slot, this.#algorithm);
    return held === undefined ? undefined : { path: file, mtime, ...held };
  }

  /** What a task has put into archives. */
  noteStretches(stretches: readonly ArchiveStretch[]): void {
    this.#archives?.note(stretches);
  }

  /** Whose the files are to be that are made here, as if the server had sent them. */
  set owner(owner: FileOwner | undefined) {
    this.#owner = owner;
  }

  /** backup_label, and in archives tablespace_map: pg_basebackup asks for it there, tablespaces or not. */
  writeLabel(tools: CopyTools, text: string): void {
    this.addToManifest(this.#writeOwn(tools, BACKUP_LABEL_PATH, text));
    if (this.#spec.kind !== 'archive') return;
    this.addToManifest(
      this.#writeOwn(tools, TABLESPACE_MAP_PATH, formatTablespaceMap(this.#unlinked, this.#majorVersion)),
    );
  }

  /**
   * What makes a standby of it, beside the settings; not in the manifest, as pg_basebackup has it.
   *
   * @returns paths of what was written
   */
  writeStandbyFiles(tools: CopyTools, list: FileList): string[] {
    const hasSettings = list.files.some(({ target }) => target === AUTO_CONF_PATH);
    const paths = hasSettings ? [STANDBY_SIGNAL_PATH] : [AUTO_CONF_PATH, STANDBY_SIGNAL_PATH];
    for (const file of paths) this.#writeOwn(tools, file, '');
    return paths;
  }

  /** All files but the manifest are written: archives get their end, unless the manifest is to be inside. */
  async endFiles(): Promise<void> {
    if (!this.#hasManifestInside) await this.#archives?.end();
    await this.#walArchive?.end();
  }

  /** Makes files (relative paths), or archives, durable with `syncFiles`, then the directories. */
  async sync(
    paths: readonly string[],
    syncFiles: (absolute: readonly string[]) => Promise<void>,
  ): Promise<void> {
    const spec = this.#spec;
    const archives = [...(this.#archives?.archives ?? [])];
    if (this.#walArchive !== undefined) archives.push(this.#walArchive.path);
    await syncFiles(
      spec.kind === 'directory' ? paths.map((file) => resolveInDirectory(spec, file)) : archives,
    );
    this.#syncDirectories();
  }

  /** Makes all that was written durable, files and directories, file system by file system. */
  async syncFileSystems(): Promise<void> {
    await syncFileSystems(this.directories.map(({ directory }) => directory));
  }

  /** The manifest gets its name, or into the archive, last of all: the backup is complete. */
  async finish(range: WalRange, sync: boolean): Promise<void> {
    await this.#manifest?.finish(range, sync, { target: this.files, owner: this.#owner });
    if (this.#hasManifestInside) await this.#archives?.end();
    if (sync) this.#syncDirectories();
  }

  /** What `remove` would empty. */
  get directories(): readonly OwnDirectory[] {
    return this.#directory?.directories ?? this.#archives?.directories ?? [];
  }

  /** Gives up what is open. */
  close(): void {
    this.#manifest?.close();
    this.#archives?.close();
    this.#walArchive?.close();
  }

  /** Removes all that was made, and only that. @throws ConvoyError `target_io` */
  async remove(): Promise<void> {
    await this.#directory?.remove();
    await this.#archives?.remove();
  }

  #prepareDirectory(target: DirectoryOptions, options: PrepareOptions): DirectoryTargetSpec {
    const { directory, tablespaceMappings, walDirectory } = target;
    const { server, tablespaces, list, includeWal, recoverySettings } = options;
    const spec: DirectoryTargetSpec = {
      kind: 'directory',
      directory,
      tablespaces: mapTablespaces(tablespaces, tablespaceMappings, 'the server', this.#warn),
      walDirectory,
      addedText: addedText(recoverySettings),
    };
    // a segment at the least
    refuseUnlessRoom(spaceNeeds(spec, list.files, includeWal ? server.walSegmentBytes : 0));
    this.#directory = new DirectoryTarget(spec);
    this.#directory.prepare(server.directoryMode, list.directories);
    return spec;
  }

  async #prepareArchives(target: ArchiveOptions, options: PrepareOptions): Promise<ArchiveTargetSpec> {
    const { directory, compression } = target;
    const { server, tablespaces, list, slots, includeWal, recoverySettings } = options;
    const oids = tablespaces.map(({ oid }) => oid);
    const spec: ArchiveTargetSpec = {
      kind: 'archive',
      directory,
      tablespaces: oids,
      compression,
      state: createArchiveState(archiveCount({ tablespaces: oids }), slots),
      addedText: addedText(recoverySettings),
    };
    if (directory === undefined && tablespaces.length > 0) {
      const message = `can only write single tablespace to stdout, database has ${tablespaces.length + 1}`;
      throw new ConvoyError('target_refused', message);
    }
    refuseUnlessRoom(archiveNeeds(spec, list.files, includeWal ? server.walSegmentBytes : 0));
    this.#unlinked = tablespaces;
    this.#majorVersion = server.major;
    this.#archives = new ArchiveTarget(spec);
    await this.#archives.prepare({ directory: server.directoryMode, file: this.#fileMode }, list.directories);
    return spec;
  }

  #writeOwn(tools: CopyTools, name: string, text: string): ManifestFile {
    const mtime = Math.floor(Date.now() / 1000);
    const file = { path: name, mode: this.#fileMode, mtime, owner: this.#owner };
    return writeWhole(tools, file, Buffer.from(text));
  }

  #syncDirectories(): void {
    this.#directory?.syncDirectories();
    this.#archives?.syncDirectories();
  }
}

function addedText(recoverySettings: string | undefined): AddedText[] | undefined {
  return recoverySettings === undefined ? undefined : [{ path: AUTO_CONF_PATH, text: recoverySettings }];
}
