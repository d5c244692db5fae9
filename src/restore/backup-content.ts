/*
 * What a finished backup consists of, as far as it can be told before it is read: files and where their bytes lie,
 * directories, tablespaces, and the archives that can only be read from start to end. Called by restore.ts.
 */
import { readSync, openSync, closeSync } from 'node:fs';
import path from 'node:path';
import { assertNever } from '../assert-never.js';
import { ConvoyError, fileError } from '../errors.js';
import { MAX_LABEL_BYTES } from '../limits.js';
import { parseTablespaceMap, TABLESPACE_MAP_PATH } from '../pgdata/tablespace-map.js';
import { indexArchive, readArchive, type ArchiveMember } from '../target/archive-reader.js';
import type { DirectoryToMake } from '../target/directory-target.js';
import type { BackupArchive, FinishedBackup } from '../target/finished-backup.js';
import type { TargetTablespace } from '../target/target.js';
import type { FileToRestore } from './messages.js';
import { listPlainBackup } from './plain-backup.js';
import { notAFile } from './problems.js';

export interface BackupContent {
  readonly files: readonly FileToRestore[];
  /** Parents come before what is in them. */
  readonly directories: readonly DirectoryToMake[];
  /** Where they lay when the backup was taken, or lie in a plain one. */
  readonly tablespaces: readonly TargetTablespace[];
  /** To be extracted as a whole. */
  readonly archives: readonly BackupArchive[];
  /** Permission bits of the data directory; undefined: archives do not tell, its files do. */
  readonly rootMode: number | undefined;
}

/** @throws ConvoyError `file_damaged`, `target_io` */
export async function listContent(backup: FinishedBackup): Promise<BackupContent> {
  switch (backup.kind) {
    case 'plain':
      return listPlainBackup(backup.directory);
    case 'tar':
      return await listArchives(backup.archives);
    case 'stream':
      return await listArchives([backup.archive]);
    default:
      return assertNever(backup);
  }
}

async function listArchives(archives: readonly BackupArchive[]): Promise<BackupContent> {
  const files: FileToRestore[] = [];
  const directories = new Map<string, number>();
  for (const archive of archives.filter(({ compression }) => compression === 'none')) {
    for (const member of indexArchive(archive)) {
      if (member.type === 'link') throw new ConvoyError('file_damaged', notAFile(member.path));
      if (member.type === 'directory') directories.set(member.path, member.mode);
      else files.push({ ...member, origin: { file: archive.path, offset: member.offset } });
    }
  }
  return {
    files,
    directories: withParents(directories, files),
    tablespaces: await findTablespaces(archives, files),
    archives: archives.filter(({ compression }) => compression !== 'none'),
    rootMode: undefined,
  };
}

/** Archives may leave out directories that files are in. */
function withParents(named: ReadonlyMap<string, number>, files: readonly FileToRestore[]): DirectoryToMake[] {
  const all = new Map(named);
  const addParents = (below: string): void => {
    for (let at = path.dirname(below); at !== '.' && !all.has(at); at = path.dirname(at)) all.set(at, 0o700);
  };
  for (const directory of named.keys()) addParents(directory);
  for (const file of files) addParents(file.path);
  all.delete('');
  return [...all]
    .map(([target, mode]) => ({ target, mode, depth: target.split('/').length }))
    .toSorted((a, b) => a.depth - b.depth);
}

async function findTablespaces(
  archives: readonly BackupArchive[],
  files: readonly FileToRestore[],
): Promise<TargetTablespace[]> {
  const known = files.find((file) => file.path === TABLESPACE_MAP_PATH);
  if (known !== undefined) return parseTablespaceMap(readText(known));
  const base = archives.find(({ prefix }) => prefix === '');
  const hasTablespaces = archives.some(({ prefix }) => prefix.startsWith('pg_tblspc/'));
  if (base === undefined || base.compression === 'none' || !hasTablespaces) return [];
  return parseTablespaceMap(await findInArchive(base));
}

function readText({ origin, size }: FileToRestore): string {
  refuseIfTooLong(size);
  try {
    const descriptor = openSync(origin.file, 'r');
    try {
      const bytes = Buffer.alloc(size);
      return bytes.toString('utf8', 0, readSync(descriptor, bytes, 0, size, origin.offset));
    } finally {
      closeSync(descriptor);
    }
  } catch (error) {
    throw fileError('read file', origin.file, error);
  }
}

/**
 * tablespace_map out of a compressed archive: no tablespace can be written before it is known. pg_basebackup has it at
 * the beginning, so reading ends soon.
 */
async function findInArchive(archive: BackupArchive): Promise<string> {
  const chunks: Buffer[] = [];
  const search = new MapSearch(chunks);
  try {
    await readArchive(archive, search);
  } catch (error) {
    if (error !== search.found) throw error;
  }
  return Buffer.concat(chunks).toString('utf8');
}

class MapSearch {
  /** Thrown to end the reading. */
  readonly found = new Error('found');
  readonly #chunks: Buffer[];
  #isMap = false;

  constructor(chunks: Buffer[]) {
    this.#chunks = chunks;
  }

  begin({ path: name, size }: ArchiveMember): void {
    this.#isMap = name === TABLESPACE_MAP_PATH;
    if (this.#isMap) refuseIfTooLong(size);
  }

  data(chunk: Buffer): undefined {
    if (this.#isMap) this.#chunks.push(Buffer.from(chunk));
  }

  end(): void {
    if (this.#isMap) throw this.found;
  }
}

function refuseIfTooLong(bytes: number): void {
  if (bytes <= MAX_LABEL_BYTES) return;
  throw new ConvoyError('file_damaged', `invalid data in file "${TABLESPACE_MAP_PATH}"`);
}
