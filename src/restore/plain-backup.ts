/*
 * Lists a plain backup: everything below its data directory, tablespaces and WAL behind their links included. Called by
 * backup-content.ts. Unlike pgdata/walk.ts it leaves nothing out: what is there was meant to be.
 */
import { lstatSync, readdirSync, readlinkSync, statSync, type Stats } from 'node:fs';
import path from 'node:path';
import { ConvoyError, fileError } from '../errors.js';
import { isUtf8 } from 'node:buffer';
import type { DirectoryToMake } from '../target/directory-target.js';
import type { TargetTablespace } from '../target/target.js';
import type { BackupContent } from './backup-content.js';
import type { FileToRestore } from './messages.js';
import { notAFile } from './problems.js';

const PERMISSIONS = 0o777;
const TABLESPACE_LINK = /^pg_tblspc\/(\d+)$/;

/** @throws ConvoyError `target_io`, and `file_damaged` for what is neither file nor directory */
export function listPlainBackup(root: string): BackupContent {
  const files: FileToRestore[] = [];
  const directories: DirectoryToMake[] = [];
  const tablespaces: TargetTablespace[] = [];
  const open = [{ absolute: root, relative: '' }];
  for (let at = open.pop(); at !== undefined; at = open.pop()) {
    for (const name of readNames(at.absolute)) {
      const absolute = `${at.absolute}/${name}`;
      const relative = at.relative === '' ? name : `${at.relative}/${name}`;
      const stats = statOf(absolute, relative, tablespaces);
      if (stats.isDirectory()) {
        // that of a tablespace is a link in the data directory
        const isLink = tablespaces.some(({ oid }) => relative === `pg_tblspc/${oid}`);
        if (!isLink) directories.push({ target: relative, mode: stats.mode & PERMISSIONS });
        open.push({ absolute, relative });
      } else if (stats.isFile()) {
        files.push(fileToRestore(absolute, relative, stats));
      } else {
        throw new ConvoyError('file_damaged', notAFile(relative));
      }
    }
  }
  return { files, directories, tablespaces, archives: [], rootMode: statSync(root).mode & PERMISSIONS };
}

/** The links of tablespaces and of the WAL are followed, no others. */
function statOf(absolute: string, relative: string, tablespaces: TargetTablespace[]): Stats {
  try {
    const stats = lstatSync(absolute);
    if (!stats.isSymbolicLink()) return stats;
    const oid = TABLESPACE_LINK.exec(relative)?.[1];
    if (oid === undefined && relative !== 'pg_wal') return stats;
    if (oid !== undefined) {
      const location = path.resolve(path.dirname(absolute), readlinkSync(absolute));
      tablespaces.push({ oid: Number(oid), location });
    }
    return statSync(absolute);
  } catch (error) {
    throw fileError('stat file', absolute, error);
  }
}

function readNames(directory: string): string[] {
  let names: Buffer[];
  try {
    names = readdirSync(directory, { encoding: 'buffer' });
  } catch (error) {
    throw fileError('open directory', directory, error);
  }
  return names.map((name) => {
    if (isUtf8(name)) return name.toString();
    throw new ConvoyError('file_damaged', `file name "${name.toString()}" in "${directory}" is not UTF-8`);
  });
}

function fileToRestore(absolute: string, relative: string, stats: Stats): FileToRestore {
  return {
    path: relative,
    size: stats.size,
    mode: stats.mode & PERMISSIONS,
    mtime: Math.floor(stats.mtimeMs / 1000),
    origin: { file: absolute, offset: 0 },
  };
}
