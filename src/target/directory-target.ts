/*
 * The coordinator's side of a plain directory target: it may only begin empty, is made before anything is copied,
 * synced after everything is, and removed if the backup fails, with nothing touched that was there before.
 * After verify_dir_is_empty_or_create and cleanup_directories_atexit of PostgreSQL's pg_basebackup.c.
 */
import { chmodSync, mkdirSync, readdirSync, rmdirSync, rmSync, symlinkSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import path from 'node:path';
import { ConvoyError, fileError, isSystemError } from '../errors.js';
import type { FileOwner } from '../file-owner.js';
import { resolveInDirectory, syncPaths, WAL_PATH } from './directory-writer.js';
import type { DirectoryTargetSpec } from './target.js';

/** A directory for files to come: it is always writable for its owner until its mode is known. */
const DIRECTORY_MODE = 0o700;

/** A directory that was found empty, or made: what is in it belongs to the backup. */
export interface OwnDirectory {
  readonly role: 'data' | 'tablespace' | 'WAL';
  /** Absolute. */
  readonly directory: string;
}

interface RootDirectory extends OwnDirectory {
  /** The first of its parents that was made, or itself; undefined: it was there. */
  readonly madeFrom: string | undefined;
}

export interface DirectoryToMake {
  /** Relative to the data directory; in a tablespace below pg_tblspc/<oid>/. */
  readonly target: string;
  /** Permission bits. */
  readonly mode: number;
  /** As TargetFile. */
  readonly owner?: FileOwner | undefined;
}

/** @throws ConvoyError `target_refused` unless nothing is there, or an empty directory */
export function refuseUnlessEmpty(directory: string): void {
  try {
    if (readdirSync(directory).length === 0) return;
  } catch (error) {
    if (isSystemError(error, 'ENOENT')) return;
    if (!isSystemError(error, 'ENOTDIR')) throw fileError('access directory', directory, error);
    throw new ConvoyError('target_refused', `"${directory}" exists but is not a directory`);
  }
  throw new ConvoyError('target_refused', `directory "${directory}" exists but is not empty`, {
    hint: 'remove or empty it, or name another directory',
  });
}

export class DirectoryTarget {
  readonly #spec: DirectoryTargetSpec;
  readonly #made: string[] = [];
  readonly #roots: RootDirectory[] = [];

  constructor(spec: DirectoryTargetSpec) {
    this.#spec = spec;
  }

  /**
   * Makes the data directory, the tablespaces' directories, that of the WAL and all that is listed, and the links.
   *
   * @param rootMode permission bits of the data directory, where it is made here
   * @throws ConvoyError `target_refused` where something is in the way, `target_io`
   */
  prepare(rootMode: number, directories: readonly DirectoryToMake[]): void {
    const { directory, tablespaces, walDirectory } = this.#spec;
    this.#refuseOverlap();
    this.#refuseWalOverlap();
    this.#makeRoot({ role: 'data', directory }, rootMode);
    for (const { location } of tablespaces) {
      this.#makeRoot({ role: 'tablespace', directory: location }, rootMode);
    }
    if (walDirectory !== undefined) this.#makeRoot({ role: 'WAL', directory: walDirectory }, rootMode);
    if (walDirectory !== undefined) link(walDirectory, `${directory}/${WAL_PATH}`);
    for (const { target } of directories) {
      if (target === WAL_PATH && walDirectory !== undefined) continue;
      this.#makeDirectory(resolveInDirectory(this.#spec, target));
    }
    for (const { oid, location } of tablespaces) link(location, `${directory}/pg_tblspc/${oid}`);
    // children first: a mode may take rights that making them needs
    for (const { target, mode } of directories.toReversed()) {
      if (mode === DIRECTORY_MODE) continue;
      const made = resolveInDirectory(this.#spec, target);
      attempt('set permissions of directory', made, () => chmodSync(made, mode | DIRECTORY_MODE));
    }
  }

  /** Removes a file that turned out to be gone on the server when a part of it was written. */
  removeFile(file: string): void {
    const absolute = resolveInDirectory(this.#spec, file);
    attempt('remove file', absolute, () => rmSync(absolute, { force: true }));
  }

  /** Makes every directory durable; the files' own bytes are synced by the workers. @throws ConvoyError `target_io` */
  syncDirectories(): void {
    const parents = this.#roots.map(({ directory, madeFrom }) => path.dirname(madeFrom ?? directory));
    syncPaths([...this.#made.toReversed(), ...new Set(parents)]);
  }

  /** Those that are in use: what `remove` would empty. */
  get directories(): readonly OwnDirectory[] {
    return this.#roots;
  }

  /** Removes all that was made, and only that. @throws ConvoyError `target_io` */
  async remove(): Promise<void> {
    for (const { directory, madeFrom } of this.#roots.toReversed()) {
      try {
        for (const name of readdirSync(directory)) {
          await rm(path.join(directory, name), { recursive: true, force: true });
        }
        if (madeFrom !== undefined) removeUpTo(directory, madeFrom);
      } catch (error) {
        if (!isSystemError(error, 'ENOENT')) throw fileError('remove directory', directory, error);
      }
    }
  }

  #refuseOverlap(): void {
    const locations = this.#spec.tablespaces.map((tablespace) => tablespace.location);
    for (const location of locations) {
      const others = [this.#spec.directory, ...locations.filter((other) => other !== location)];
      const isTwice = locations.filter((other) => other === location).length > 1;
      const clash = others.find(
        (other) => location === other || (other !== this.#spec.directory && isBelow(location, other)),
      );
      const above = isBelow(this.#spec.directory, location) ? this.#spec.directory : undefined;
      if (isTwice || clash !== undefined || above !== undefined) {
        throw new ConvoyError(
          'target_refused',
          `tablespace directory "${location}" overlaps "${clash ?? above ?? location}"`,
          {
            hint: 'give each tablespace a directory of its own with -T OLD=NEW',
          },
        );
      }
    }
  }

  /** The WAL's directory stays out of all others, and they out of it. */
  #refuseWalOverlap(): void {
    const { directory, tablespaces, walDirectory: wal } = this.#spec;
    if (wal === undefined) return;
    const clash = [directory, ...tablespaces.map(({ location }) => location)].find(
      (other) => wal === other || isBelow(wal, other) || isBelow(other, wal),
    );
    if (clash === undefined) return;
    throw new ConvoyError('target_refused', `WAL directory "${wal}" overlaps "${clash}"`, {
      hint: 'give it a directory of its own with --waldir',
    });
  }

  #makeRoot({ role, directory }: OwnDirectory, mode: number): void {
    refuseUnlessEmpty(directory);
    attempt('create directory', directory, () => {
      const madeFrom = mkdirSync(directory, { recursive: true, mode: DIRECTORY_MODE });
      this.#roots.push({ role, directory, madeFrom });
      this.#made.push(...ancestorsFrom(madeFrom ?? directory, directory));
      if (madeFrom !== undefined) chmodSync(directory, mode);
    });
  }

  #makeDirectory(directory: string): void {
    attempt('create directory', directory, () => {
      try {
        mkdirSync(directory, { mode: DIRECTORY_MODE });
      } catch (error) {
        // a tablespace's directory inside the data directory is made already, with those above it
        if (!isSystemError(error, 'EEXIST') || !this.#made.includes(directory)) throw error;
      }
      this.#made.push(directory);
    });
  }
}

function attempt(action: string, at: string, step: () => void): void {
  try {
    step();
  } catch (error) {
    throw fileError(action, at, error);
  }
}

function link(to: string, at: string): void {
  attempt('create symbolic link', at, () => symlinkSync(to, at));
}

function isBelow(inner: string, outer: string): boolean {
  return inner.startsWith(`${outer}/`);
}

/** `top`, and what lies between it and `directory`, down to that. */
function ancestorsFrom(top: string, directory: string): string[] {
  const found = [directory];
  for (let at = directory; isBelow(at, top);) {
    at = path.dirname(at);
    found.unshift(at);
  }
  return found;
}

/** Removes `directory` and its parents, as long as they are empty, up to and with `top`. */
function removeUpTo(directory: string, top: string): void {
  for (let at = directory; at === top || isBelow(at, top); at = path.dirname(at)) {
    try {
      rmdirSync(at);
    } catch (error) {
      if (isSystemError(error, 'ENOTEMPTY')) return;
      throw error;
    }
  }
}
