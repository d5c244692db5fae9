/* Where the tablespaces of a plain backup go: their own locations, or where -T OLD=NEW says. */
import type { SourceTablespace } from '../source/source.js';
import type { TargetTablespace } from '../target/target.js';
import type { TablespaceMapping } from './backup-options.js';

export function mapTablespaces(
  tablespaces: readonly SourceTablespace[],
  mappings: readonly TablespaceMapping[],
  warn: (message: string) => void,
): TargetTablespace[] {
  for (const { from } of mappings) {
    if (!tablespaces.some(({ location }) => location === from)) {
      warn(`the server has no tablespace at "${from}" (option -T)`);
    }
  }
  return tablespaces.map(({ oid, location }) => ({
    oid,
    location: mappings.find(({ from }) => from === location)?.to ?? location,
  }));
}
