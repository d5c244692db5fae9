/*
 * tablespace_map: one line a tablespace, its oid and where it lies. Format and parse are twins.
 * Source: do_pg_backup_start (writing) and read_tablespace_map (reading) in PostgreSQL's xlog.c and xlogrecovery.c.
 */
import { ConvoyError } from '../errors.js';

export const TABLESPACE_MAP_PATH = 'tablespace_map';

export interface TablespaceLocation {
  readonly oid: number;
  /** Absolute path on the server. */
  readonly location: string;
}

/** Newlines, carriage returns and, since PostgreSQL 14, backslashes in a path are escaped by a backslash. */
export function formatTablespaceMap(
  tablespaces: readonly TablespaceLocation[],
  majorVersion: number,
): string {
  const escaped = majorVersion >= 14 ? /[\n\r\\]/g : /[\n\r]/g;
  return tablespaces
    .map(({ oid, location }) => `${oid} ${location.replaceAll(escaped, String.raw`\$&`)}\n`)
    .join('');
}

/**
 * Of any release: a backslash before anything that is not escaped is one of a path, which 13 writes as it is.
 *
 * @throws ConvoyError `file_damaged` for a line that is not one
 */
export function parseTablespaceMap(text: string): TablespaceLocation[] {
  const lines = text.match(/(?:\\[\s\S]|[^\n\\])+/g) ?? [];
  return lines.map((line) => {
    const match = /^(\d{1,10}) ([\s\S]+)$/.exec(line);
    if (match === null)
      throw new ConvoyError('file_damaged', `invalid data in file "${TABLESPACE_MAP_PATH}"`);
    return { oid: Number(match[1]), location: (match[2] ?? '').replaceAll(/\\([\n\r\\])/g, '$1') };
  });
}
