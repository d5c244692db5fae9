/* The tablespaces that a server names when a backup starts, checked before anything is done with them. */
import path from 'node:path';
import { ConvoyError } from '../errors.js';
import type { TablespaceRow } from '../replication/result-sets.js';
import type { SourceTablespace } from './source.js';

/**
 * @param rows START_BACKUP's header: the tablespaces, then the data directory
 * @throws ConvoyError `untrusted_peer` for a relative location, one with "..", or anything twice
 */
export function checkTablespaces(rows: readonly TablespaceRow[]): SourceTablespace[] {
  const last = rows.at(-1);
  if (last === undefined || last.oid !== undefined)
    throw refuse('no data directory in the list of tablespaces');
  const seen = new Set<number | string>();
  return rows.slice(0, -1).map(({ oid, location }) => {
    if (oid === undefined || location === undefined)
      throw refuse('two data directories in the list of tablespaces');
    if (!path.isAbsolute(location) || path.normalize(location) !== location || location.includes('\0')) {
      throw refuse(`invalid location of tablespace ${oid}: "${location}"`);
    }
    if (seen.has(oid) || seen.has(location)) throw refuse(`tablespace ${oid} is listed twice`);
    seen.add(oid).add(location);
    return { oid, location };
  });
}

function refuse(message: string): ConvoyError {
  return new ConvoyError('untrusted_peer', message);
}
