/*
 * Where a backup goes: the contract between the copy and the places that files can be written to.
 *
 * A target is described by plain data (it crosses to the worker threads) and opened on each side: the coordinator
 * prepares it, writes the few files that it makes itself, syncs or removes it (directory-target.ts, archive-target.ts); workers
 * write the cluster's files (openTarget). Per task the calls are (createFile, write*, finish)* and commit, or abandon for the
 * file in hand and rollback; per file one after the other. A chunk is only read before write returns.
 */
import type { FileOwner } from '../file-owner.js';
import type { AddedText } from './added-text.js';
import type { Compression } from './compression/compression.js';

/** A tablespace of the backup, where it lies once restored. */
export interface TargetTablespace {
  readonly oid: number;
  /** Absolute path on this machine. */
  readonly location: string;
}

/** A backup as a plain directory, with its tablespaces in directories of their own. */
export interface DirectoryTargetSpec {
  readonly kind: 'directory';
  /** Absolute. */
  readonly directory: string;
  readonly tablespaces: readonly TargetTablespace[];
  /** Absolute; where pg_wal leads to. Undefined: pg_wal is a directory like any other. */
  readonly walDirectory?: string | undefined;
  /** For files that get more than the server has in them. */
  readonly addedText?: readonly AddedText[] | undefined;
}

/** A backup as tar archives: one for the data directory, one for each tablespace (archive-layout.ts). */
export interface ArchiveTargetSpec {
  readonly kind: 'archive';
  /** The directory of the archives, absolute; undefined: the one archive goes to standard output. */
  readonly directory: string | undefined;
  /** Oids, in the order of their archives. */
  readonly tablespaces: readonly number[];
  readonly compression: Compression;
  /** What the threads share: archive-state.ts. */
  readonly state: SharedArrayBuffer;
  /** For files that get more than the server has in them. */
  readonly addedText?: readonly AddedText[] | undefined;
}

/** Nothing is written at all. */
export interface BlackholeTargetSpec {
  readonly kind: 'blackhole';
}

export type TargetSpec = DirectoryTargetSpec | ArchiveTargetSpec | BlackholeTargetSpec;

export interface TargetFile {
  /** Relative to the data directory; tablespace files below pg_tblspc/<oid>/. */
  readonly path: string;
  /** Bytes that will be written. */
  readonly size: number;
  /** Permission bits. */
  readonly mode: number;
  /** Seconds since the epoch. */
  readonly mtime: number;
  /** Whose it is on the server; for archives. Undefined: not known. */
  readonly owner?: FileOwner | undefined;
  /** Where in the file the bytes go, while others write its other parts; undefined: it is written whole. */
  readonly offset?: number | undefined;
  /** Bytes of the whole file, where `offset` is given; the parts of a file are written in ascending order where there are turns. */
  readonly wholeSize?: number | undefined;
  /** The file's number in the plan, the same in all its parts and tries; undefined: written once, by the coordinator. */
  readonly slot?: number | undefined;
}

export interface FileWriter {
  /**
   * Bytes that it takes, neither more nor less: those of the TargetFile, unless an earlier try of the task has fixed
   * another size.
   */
  readonly size: number;
  /**
   * @returns a promise where the source is to wait; it never rejects, what went wrong is thrown by a later call
   * @throws ConvoyError `target_io` naming the file
   */
  write(chunk: Uint8Array): Promise<void> | undefined;
  /** @throws ConvoyError `target_io` naming the file */
  finish(): void;
  /** Gives the file up, half written as it may be; never throws. */
  abandon(): void;
}

/** Bytes of an archive that are one task's, where the archive has a checksum over all of it. */
export interface ArchiveStretch {
  /** Which archive: its place in the layout. */
  readonly archive: number;
  /** Where it lies, in bytes; only the order counts. */
  readonly place: number;
  /** Bytes before compression, and their CRC-32. */
  readonly rawBytes: number;
  readonly rawCrc: number;
}

/**
 * How a target takes the parts of files that it does not take side by side: a part waits for its turn once it has all its
 * bytes, and passes it on with its commit; whole files wait before they begin, so that nothing comes between two parts.
 */
export interface TurnOrder {
  await(turn: number): Promise<void>;
  /** The first part of the file is there; where it is not, the others are not wanted. Asked in one's turn. */
  hasBegun(slot: number): boolean;
  /** After the commit. */
  pass(): void;
}

export interface Target {
  /** Undefined: tasks have no turns here. */
  readonly turns?: TurnOrder | undefined;
  /** @throws ConvoyError `target_io` naming the file */
  createFile(file: TargetFile): FileWriter;
  /**
   * The files of a task are complete.
   *
   * @throws ConvoyError `target_io`
   */
  commit(): Promise<readonly ArchiveStretch[]>;
  /**
   * Takes a task's files back, as far as the target needs that for the task to be done again; never throws.
   *
   * @returns false where they have left for good: the task cannot be done again
   */
  rollback(): Promise<boolean>;
}
