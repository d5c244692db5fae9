/*
 * STOP_BACKUP: sends pg_control, takes the server out of backup mode and, with WAL, sends the segments that the backup
 * needs, all in one COPY; then where the backup ends. Called by command-loop.ts.
 * Source: StopBackup of the patch; PROTOCOL "The tar stream of SEND_BACKUP_FILES".
 */
import { lstat } from 'node:fs/promises';
import path from 'node:path';
import { ConvoyError, fileError } from '../errors.js';
import { CONTROL_FILE_PATH, readControlFileBytes } from '../pgdata/control-file.js';
import type { StopBackup } from '../replication/command.js';
import { encodePosition, POSITION_COLUMNS } from '../replication/result-sets.js';
import {
  commandComplete,
  copyDone,
  copyOutResponse,
  dataRow,
  noticeResponse,
  rowDescription,
} from '../wire/backend-messages.js';
import type { Notice } from '../wire/open-options.js';
import { describePosition, notInProgress } from './backup-slot.js';
import type { CommandContext } from './command-context.js';
import { SELECT_TAG } from './start-backup.js';
import { TarOutput } from './tar-output.js';
import { sendWalFiles } from './wal-files.js';

export async function stopBackup(command: StopBackup, context: CommandContext): Promise<void> {
  const { backup, channel, log, signal } = context;
  const { started } = backup;
  if (started === undefined) throw notInProgress();
  channel.send(copyOutResponse());
  using tar = new TarOutput(channel);
  try {
    await sendControlFile(tar, context);
    if (command.label === undefined) throw invalidLabel();
    const stopped = await backup.stop(!command.noWait, signal, (notice) => forwardNotice(notice, context));
    assertSameBackup(command.label, stopped.label);
    if (command.wal) await sendWalFiles(started.start, stopped.end, tar, context);
    channel.send(
      copyDone(),
      rowDescription(POSITION_COLUMNS),
      dataRow(encodePosition(stopped.end)),
      commandComplete(SELECT_TAG),
      commandComplete(SELECT_TAG),
    );
    log('LOG', `backup stopped at ${describePosition(stopped.end)}`);
  } finally {
    // after an error the backup is gone, as with the patch
    await backup.abort();
  }
}

async function sendControlFile(tar: TarOutput, { cluster }: CommandContext): Promise<void> {
  const file = path.join(cluster.dataDirectory, CONTROL_FILE_PATH);
  const content = await readControlFileBytes(cluster.dataDirectory);
  const { mode, uid, gid, mtimeMs } = await lstat(file).catch((error: unknown) => {
    throw fileError('stat file', file, error);
  });
  await tar.file({ name: CONTROL_FILE_PATH, mode, uid, gid, mtimeMs }, content);
}

/** The lines that say which backup it is. The start time is the server's own affair: it takes it a moment earlier. */
const IDENTIFYING_LINES = [
  'START WAL LOCATION: ',
  'CHECKPOINT LOCATION: ',
  'BACKUP FROM: ',
  'LABEL: ',
  'START TIMELINE: ',
] as const;

function assertSameBackup(given: string, servers: string): void {
  for (const prefix of IDENTIFYING_LINES) {
    const [line, expected] = [given, servers].map((text) =>
      text.split('\n').filter((each) => each.startsWith(prefix)),
    );
    if (line?.length !== 1 || line[0] !== expected?.[0]) throw invalidLabel();
  }
}

/** What do_pg_stop_backup says about a label that it cannot read. */
function invalidLabel(): ConvoyError {
  return new ConvoyError('serve_refused', 'invalid data in file "backup_label"', {
    hint: 'LABEL is the whole text that START_BACKUP has returned as label',
    sqlState: '55000',
  });
}

function forwardNotice({ severity, message, hint }: Notice, { channel }: CommandContext): void {
  const isWarning = severity === 'WARNING';
  const fields = {
    severity: isWarning ? 'WARNING' : 'NOTICE',
    sqlState: isWarning ? '01000' : '00000',
  } as const;
  channel.send(noticeResponse({ ...fields, message, hint }));
}
