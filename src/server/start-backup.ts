/*
 * START_BACKUP: takes the server into backup mode and says where the backup starts, which tablespaces it has, and what
 * goes into backup_label and tablespace_map. Called by command-loop.ts.
 * Source: StartBackup of the patch; PROTOCOL "Message flow".
 */
import { ConvoyError } from '../errors.js';
import { MAX_PATH_BYTES } from '../limits.js';
import { formatTablespaceMap } from '../pgdata/tablespace-map.js';
import type { StartBackup } from '../replication/command.js';
import {
  encodeLabel,
  encodePosition,
  encodeTablespace,
  LABEL_COLUMNS,
  POSITION_COLUMNS,
  TABLESPACE_COLUMNS,
  type TablespaceRow,
} from '../replication/result-sets.js';
import { commandComplete, dataRow, rowDescription } from '../wire/backend-messages.js';
import { describePosition, type StartedBackup } from './backup-slot.js';
import type { CommandContext } from './command-context.js';
import { FileListing } from './file-listing.js';
import { printable } from './server-log.js';

/** The tag of every result set, as basebackup.c sends it. */
export const SELECT_TAG = 'SELECT';

export async function startBackup(command: StartBackup, context: CommandContext): Promise<void> {
  assertLabel(command.label);
  const { backup, channel, log, signal } = context;
  const started = await backup.start(command.label, command.fast, signal);
  log('LOG', `backup "${printable(command.label)}" started at ${describePosition(started.start)}`);
  const tablespaces = await describeTablespaces(started, command.progress, context);
  const map =
    command.tablespaceMap && started.tablespaces.length > 0
      ? formatTablespaceMap(started.tablespaces, context.cluster.majorVersion)
      : undefined;
  channel.send(
    rowDescription(POSITION_COLUMNS),
    dataRow(encodePosition(started.start)),
    commandComplete(SELECT_TAG),
    rowDescription(TABLESPACE_COLUMNS),
    ...tablespaces.map((row) => dataRow(encodeTablespace(row))),
    commandComplete(SELECT_TAG),
    rowDescription(LABEL_COLUMNS),
    dataRow(encodeLabel({ label: started.label, tablespaceMap: map })),
    commandComplete(SELECT_TAG),
    commandComplete(SELECT_TAG),
  );
}

/** One row a tablespace, and one for the data directory. */
async function describeTablespaces(
  started: StartedBackup,
  withSizes: boolean,
  context: CommandContext,
): Promise<TablespaceRow[]> {
  const listing = new FileListing(started.tablespaces, context);
  const rows: TablespaceRow[] = [];
  for (const { oid, location } of started.tablespaces) {
    const sizeKilobytes = withSizes ? await listing.tarKilobytes(listing.tablespace(location)) : undefined;
    rows.push({ oid, location, sizeKilobytes });
  }
  const sizeKilobytes = withSizes ? await listing.tarKilobytes(listing.dataDirectory()) : undefined;
  return [...rows, { oid: undefined, location: undefined, sizeKilobytes }];
}

function assertLabel(label: string): void {
  if (/[\r\n]/.test(label)) {
    // it would forge lines of backup_label
    const message = 'backup label must not contain a newline or a carriage return';
    throw new ConvoyError('usage', message, { sqlState: '22023' });
  }
  if (Buffer.byteLength(label) > MAX_PATH_BYTES) {
    const message = `backup label too long (max ${MAX_PATH_BYTES} bytes)`;
    throw new ConvoyError('usage', message, { sqlState: '22023' });
  }
}
