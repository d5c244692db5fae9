/*
 * The tablespaces outside of base and global, from the links in pg_tblspc: as do_pg_backup_start collects them.
 * In-place tablespaces (directories there, since 15) belong to the data directory's own list.
 */
import { readdir, readlink, realpath } from 'node:fs/promises';
import path from 'node:path';
import { fileError, isSystemError } from '../errors.js';
import type { TablespaceLocation } from '../pgdata/tablespace-map.js';

export interface ServedTablespace extends TablespaceLocation {
  /** The location without symbolic links; undefined where it is gone. */
  readonly realLocation: string | undefined;
}

/** By oid. @throws ConvoyError where pg_tblspc cannot be read */
export async function listTablespaces(dataDirectory: string): Promise<ServedTablespace[]> {
  const directory = path.join(dataDirectory, 'pg_tblspc');
  const entries = await readdir(directory, { withFileTypes: true }).catch((error: unknown) => {
    throw fileError('open directory', directory, error);
  });
  const links = entries.filter((entry) => entry.isSymbolicLink() && /^[1-9]\d*$/.test(entry.name));
  const found = await Promise.all(links.map((link) => readTablespace(directory, link.name)));
  return found.filter((tablespace) => tablespace !== undefined).toSorted((a, b) => a.oid - b.oid);
}

/** Undefined where the tablespace has been dropped meanwhile. */
async function readTablespace(directory: string, name: string): Promise<ServedTablespace | undefined> {
  const link = path.join(directory, name);
  try {
    const location = await readlink(link);
    const realLocation = await realpath(link).catch(() => undefined);
    return { oid: Number(name), location, realLocation };
  } catch (error) {
    if (isSystemError(error, 'ENOENT')) return undefined;
    throw fileError('read symbolic link', link, error);
  }
}

/** Locations that lie in the data directory: their files are listed once, with the tablespace. */
export function locationsInside(dataDirectory: string, tablespaces: readonly ServedTablespace[]): string[] {
  return tablespaces
    .map((tablespace) => tablespace.realLocation)
    .filter((location) => location !== undefined)
    .filter((location) => location.startsWith(`${dataDirectory}/`));
}
