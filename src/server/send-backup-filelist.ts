/*
 * SEND_BACKUP_FILELIST: every file of the cluster, one result set a tablespace, the data directory last, in the order of
 * START_BACKUP's header. Works without START_BACKUP, too. Called by command-loop.ts.
 * Source: SendBackupFileList of the patch; PROTOCOL "The file list".
 */
import type { WalkedFile } from '../pgdata/walk.js';
import { encodeListedFile, FILE_COLUMNS } from '../replication/result-sets.js';
import { commandComplete, dataRow, rowDescription } from '../wire/backend-messages.js';
import type { CommandContext } from './command-context.js';
import { FileListing } from './file-listing.js';
import { SELECT_TAG } from './start-backup.js';
import { listTablespaces } from './tablespaces.js';

export async function sendBackupFilelist(context: CommandContext): Promise<void> {
  const { backup, channel, cluster } = context;
  const tablespaces = backup.started?.tablespaces ?? (await listTablespaces(cluster.dataDirectory));
  const listing = new FileListing(tablespaces, context);
  for (const { location } of tablespaces) await sendSet(listing.tablespace(location), context);
  await sendSet(listing.dataDirectory(), context);
  channel.send(commandComplete(SELECT_TAG), commandComplete(SELECT_TAG));
}

async function sendSet(
  batches: AsyncGenerator<WalkedFile[]>,
  { channel, signal }: CommandContext,
): Promise<void> {
  channel.send(rowDescription(FILE_COLUMNS));
  for await (const batch of batches) {
    signal.throwIfAborted();
    channel.send(Buffer.concat(batch.map((file) => dataRow(encodeListedFile(file)))));
    await channel.paced();
  }
}
