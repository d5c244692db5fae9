/*
 * Where a backup goes: the contract between the copy and the places that files can be written to.
 *
 * A target is described by plain data (it crosses to the worker threads) and opened on each side: the coordinator
 * prepares it, writes the few files that it makes itself, syncs or removes it (directory-target.ts); workers write the
 * cluster's files (openTarget). Per file the calls are createFile, write*, and finish or abandon; a chunk is only read before
 * write returns. After abandon the same file may be created again and is written anew.
 */

import type { AddedText } from './added-text.js';

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

/** Nothing is written at all. */
export interface BlackholeTargetSpec {
  readonly kind: 'blackhole';
}

export type TargetSpec = DirectoryTargetSpec | BlackholeTargetSpec;

export interface TargetFile {
  /** Relative to the data directory; tablespace files below pg_tblspc/<oid>/. */
  readonly path: string;
  /** Bytes that will be written. */
  readonly size: number;
  /** Permission bits. */
  readonly mode: number;
  /** Seconds since the epoch. */
  readonly mtime: number;
  /** Where in the file the bytes go, while others write its other parts; undefined: it is written whole. */
  readonly offset?: number | undefined;
}

export interface FileWriter {
  /** @throws ConvoyError `target_io` naming the file */
  write(chunk: Uint8Array): void;
  /** @throws ConvoyError `target_io` naming the file */
  finish(): void;
  /** Gives the file up, half written as it may be; never throws. */
  abandon(): void;
}

export interface Target {
  /** @throws ConvoyError `target_io` naming the file */
  createFile(file: TargetFile): FileWriter;
}
