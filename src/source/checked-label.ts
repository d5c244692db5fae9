/* The backup label that a server gives, held against the start position that it gave. Used by both kinds of source. */
import { ConvoyError } from '../errors.js';
import type { Lsn } from '../lsn.js';
import { parseBackupLabel, type BackupLabel } from '../pgdata/backup-label.js';

/** @throws ConvoyError `untrusted_peer` for another backup's label, `file_damaged` for what is none */
export function checkBackupLabel(
  text: string,
  start: { readonly lsn: Lsn; readonly timeline: number },
): BackupLabel {
  const label = parseBackupLabel(text);
  if (label.startLsn !== start.lsn || label.startTimeline !== start.timeline) {
    throw new ConvoyError('untrusted_peer', 'the backup label does not match the start of the backup');
  }
  return label;
}
