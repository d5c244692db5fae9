/*
 * Where a backup comes from: the contract between the coordinator and workers on one side and the kinds of server
 * on the other. A source answers four questions: start and stop (BackupSource, on the coordinator's connection, whose loss ends
 * the backup on the server), list (the same), read (FileReader, one connection a worker).
 */
import type { ConvoyError } from '../errors.js';
import type { FileOwner } from '../file-owner.js';
import type { Lsn } from '../lsn.js';

export interface StartOptions {
  readonly label: string;
  readonly fastCheckpoint: boolean;
  /** WAL will be asked for at the end: the source holds it, or watches that it stays, where it can. */
  readonly includeWal: boolean;
}

/** A tablespace that lies outside the data directory proper and is reached by a link. */
export interface SourceTablespace {
  readonly oid: number;
  /** Absolute path on the server. */
  readonly location: string;
}

export interface StartedBackup {
  readonly startLsn: Lsn;
  readonly startTimeline: number;
  /** The server is a standby: it writes no WAL of its own, and closes no segment. */
  readonly fromStandby: boolean;
  readonly tablespaces: readonly SourceTablespace[];
}

/** What is known of the server once the source is open. */
export interface SourceServer {
  readonly version: string;
  readonly major: number;
  readonly systemIdentifier: bigint;
  readonly walSegmentBytes: number;
  /** data_directory_mode: 0o700, or 0o750 where the group may read. */
  readonly directoryMode: number;
}

export interface SourceFile {
  /** The name to ask for it by. */
  readonly source: string;
  /** Relative to the backup's data directory; tablespace files below pg_tblspc/<oid>/. */
  readonly target: string;
  /** Bytes, as listed. */
  readonly size: number;
  /** Seconds since the epoch, as listed. */
  readonly mtime: number;
  readonly tablespace: number | undefined;
}

export interface SourceDirectory {
  /** As SourceFile.target. */
  readonly target: string;
  /** Permission bits. */
  readonly mode: number;
  /** Undefined: the server does not tell. */
  readonly owner?: FileOwner | undefined;
}

/** Checked: plain paths, nothing twice, links only where tablespaces are. */
export interface FileList {
  readonly files: readonly SourceFile[];
  /** Parents before children. */
  readonly directories: readonly SourceDirectory[];
}

/** A member that comes when the backup stops: pg_control, then WAL where asked for. */
export interface StopMember {
  /** Relative to the data directory. */
  readonly path: string;
  readonly size: number;
  readonly mode: number;
  readonly mtime: number;
  /** Undefined: the server does not tell. */
  readonly owner?: FileOwner | undefined;
}

/** Takes the members in the order begin, data*, end; chunks are borrowed until data returns. */
export interface StopReceiver {
  begin(member: StopMember): void;
  /** A returned promise asks the source to wait. */
  data(chunk: Buffer): Promise<void> | undefined;
  end(): void;
}

export interface StopOptions {
  readonly includeWal: boolean;
  /** Wait until the archiver has the last segment, where the server archives. */
  readonly waitForArchive: boolean;
}

export interface StoppedBackup {
  readonly stopLsn: Lsn;
  readonly stopTimeline: number;
  /** Text of backup_label, checked to be that of the start. */
  readonly backupLabel: string;
}

/** The coordinator's side. Call order: start, list, stop, each once; close or destroy at any time. */
export interface BackupSource {
  readonly server: SourceServer;
  /** Its readers take ranges of files, so that several workers can share one. */
  readonly readsRanges: boolean;
  /** Resolves when the connection is lost; the backup is gone then. */
  readonly lost: Promise<ConvoyError>;
  start(options: StartOptions): Promise<StartedBackup>;
  list(): Promise<FileList>;
  stop(options: StopOptions, receiver: StopReceiver): Promise<StoppedBackup>;
  close(): Promise<void>;
  /** At once; the server leaves backup mode when it sees the connection gone. */
  destroy(): void;
}

export interface ReadOptions {
  readonly startLsn: Lsn;
  readonly verifyPageChecksums: boolean;
}

/** A part of a file; only for sources that read ranges. */
export interface FileRange {
  /** Bytes; a multiple of the page size. */
  readonly offset: number;
  readonly length: number;
}

export interface FileToRead {
  readonly source: string;
  readonly target: string;
  /** Bytes, as listed. */
  readonly size: number;
  /** Seconds since the epoch, as listed. */
  readonly mtime: number;
  /** Undefined: the whole file. */
  readonly range?: FileRange | undefined;
}

export interface ReadFile {
  /** Bytes that will come: of the range, where one was asked for. */
  readonly size: number;
  readonly mode: number;
  /** Seconds since the epoch. */
  readonly mtime: number;
  /** Undefined: the server does not tell. */
  readonly owner?: FileOwner | undefined;
}

/** Takes the files of one read; a file that is never begun had vanished. Chunks are borrowed until data returns. */
export interface FileReceiver {
  /** @param index which of the files asked for; in ascending order */
  begin(index: number, file: ReadFile): void;
  /** A returned promise asks the source to wait. */
  data(chunk: Buffer): Promise<void> | undefined;
  end(): void;
}

export interface ReadResult {
  /** Pages that are damaged on the server were copied as they are; a warning named them. */
  readonly hasBadPages: boolean;
  /** How many; absent where there are none, and where the server does not say. */
  readonly badPageCount?: number | undefined;
  /** Warnings of the server, and of the page check. */
  readonly warnings: readonly string[];
}

/** A worker's side: one connection. */
export interface FileReader {
  /**
   * @throws ConvoyError `connection_lost` (worth a new try on a new connection), `untrusted_peer`, `server_error`,
   * and what the receiver throws
   */
  read(files: readonly FileToRead[], options: ReadOptions, receiver: FileReceiver): Promise<ReadResult>;
  /** Drops the connection, at once: a server that waits for a command takes the end for a goodbye. */
  destroy(): void;
}
