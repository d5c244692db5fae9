/* Where the tablespaces of a backup go: their own locations, or where -T OLD=NEW says. For `backup` and `restore`. */
import type { TargetTablespace } from './target.js';

/** Puts a tablespace elsewhere: -T OLD=NEW. */
export interface TablespaceMapping {
  /** Absolute path where it was taken from. */
  readonly from: string;
  /** Absolute path here. */
  readonly to: string;
}

/**
 * @param origin where the tablespaces come from, for messages: "the server"
 * @param warn of a mapping that is of no tablespace
 */
export function mapTablespaces(
  tablespaces: readonly TargetTablespace[],
  mappings: readonly TablespaceMapping[],
  origin: string,
  warn: (message: string) => void,
): TargetTablespace[] {
  for (const { from } of mappings) {
    if (!tablespaces.some(({ location }) => location === from)) {
      warn(`${origin} has no tablespace at "${from}" (option -T)`);
    }
  }
  return tablespaces.map(({ oid, location }) => ({
    oid,
    location: mappings.find(({ from }) => from === location)?.to ?? location,
  }));
}
