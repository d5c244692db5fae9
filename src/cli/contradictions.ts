/*
 * Options of `pgconvoy backup` that do not go together: in the order and the words of main() of pg_basebackup.c, before
 * anything else is done. And what is not there at all.
 */
import { ConvoyError } from '../errors.js';
import type { BackupFlags } from './backup-flags.js';
import { refuseServerCompression, requestedCompression } from './compression-option.js';
import { refuseBackupTarget } from './option-values.js';

/** @throws ConvoyError `usage` */
export function refuseContradictions(flags: BackupFlags): void {
  const isDiscarded = flags.target !== 'client';
  const compression = requestedCompression(flags);
  const isCompressed = (compression?.method ?? 'none') !== 'none';
  const rules: readonly (readonly [isBroken: boolean, message: string, hint?: string])[] = [
    [flags.pgdata === undefined && !isDiscarded, 'must specify output directory or backup target'],
    [flags.pgdata !== undefined && isDiscarded, 'cannot specify both output directory and backup target'],
    [flags.format !== undefined && isDiscarded, 'cannot specify both format and backup target'],
    [
      compression?.location === 'client' && isDiscarded,
      'client-side compression is not possible when a backup target is specified',
    ],
    [isCompressed && flags.format !== 'tar' && !isDiscarded, 'only tar mode backups can be compressed'],
    [
      flags.walMethod === 'stream' && isDiscarded,
      'WAL cannot be streamed when a backup target is specified',
      'use "-X none" or "-X fetch"',
    ],
    [
      flags.walMethod === 'stream' && flags.format === 'tar' && flags.pgdata === '-',
      'cannot stream write-ahead logs in tar mode to stdout',
      'use "-X none" or "-X fetch"',
    ],
    [
      flags.slot !== undefined && flags.walMethod !== 'stream',
      'replication slots can only be used with WAL streaming',
    ],
    [flags.slot !== undefined && flags.useSlot === false, '--no-slot cannot be used with slot name'],
    [
      flags.slot === undefined && flags.createSlot === true,
      '--create-slot needs a slot to be specified using --slot',
    ],
    [
      flags.writeRecoveryConf === true && isDiscarded,
      'recovery configuration cannot be written when a backup target is used',
    ],
    [
      flags.waldir !== undefined && isDiscarded,
      'WAL directory location cannot be specified along with a backup target',
    ],
    [
      flags.waldir !== undefined && flags.format === 'tar',
      'WAL directory location can only be specified in plain mode',
    ],
    [flags.progress !== undefined && !flags.estimateSize, incompatible('--progress', '--no-estimate-size')],
    [
      !flags.manifest && flags.manifestChecksums !== undefined,
      incompatible('--no-manifest', '--manifest-checksums'),
    ],
    [
      !flags.manifest && flags.manifestForceEncode === true,
      incompatible('--no-manifest', '--manifest-force-encode'),
    ],
  ];
  const broken = rules.find(([isBroken]) => isBroken);
  if (broken !== undefined) throw new ConvoyError('usage', broken[1], { hint: broken[2] });
}

/** What pg_basebackup can, and this cannot. @throws ConvoyError `usage` */
export function refuseUnsupported(flags: BackupFlags): void {
  if (flags.incremental !== undefined) {
    throw new ConvoyError('usage', 'incremental backups are not supported: every backup is a full one', {
      hint: 'leave out -i/--incremental, or take such a backup with pg_basebackup',
    });
  }
  refuseBackupTarget(flags.target);
  refuseServerCompression(requestedCompression(flags), flags.target !== 'client');
}

function incompatible(one: string, other: string): string {
  return `${one} and ${other} are incompatible options`;
}
