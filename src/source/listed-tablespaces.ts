/* The tablespaces that a server names when a backup starts, checked before anything is done with them. */
import path from 'node:path';
import { ConvoyError } from '../errors.js';
import type { TablespaceRow } from '../replication/result-sets.js';
import type { SourceTablespace } from './source.js';

/**
 * START_BACKUP's header: the tablespaces, then the data directory.
 *
 * @throws ConvoyError `untrusted_peer` as {@link checkTablespaces}
 */
export function checkHeader(rows: readonly TablespaceRow[]): SourceTablespace[] {
  const last = rows.at(-1);
  if (last === undefined || last.oid !== undefined) {
    throw refuse('no data directory in the list of tablespaces');
  }
  return checkTablespaces(rows.slice(0, -1));
}

/** @throws ConvoyError `untrusted_peer` for a relative location, one with "..", or anything twice */
export function checkTablespaces(
  rows: readonly Pick<TablespaceRow, 'oid' | 'location'>[],
): SourceTablespace[] {
  const seen = new Set<number | string>();
  return rows.map(({ oid, location }) => {
    if (oid === undefined || location === undefined)
      throw refuse('two data directories in the list of tablespaces');
    if (!isCanonical(location)) {
      throw refuse(`invalid location of tablespace ${oid}: "${location}"`);
    }
    if (seen.has(oid) || seen.has(location)) throw refuse(`tablespace ${oid} is listed twice`);
    seen.add(oid).add(location);
    return { oid, location };
  });
}

/** As PostgreSQL keeps locations (canonicalize_path): absolute, without "." and "..", no slash at the end. */
function isCanonical(location: string): boolean {
  const isPlain = path.isAbsolute(location) && path.normalize(location) === location;
  return isPlain && !location.endsWith('/') && !location.includes('\0');
}

function refuse(message: string): ConvoyError {
  return new ConvoyError('untrusted_peer', message);
}
