/*
 * How far a restored server is to recover: the settings for postgresql.auto.conf, and which signal file it finds.
 * Called by restore.ts. Rules: PostgreSQL's documentation, "Recovery Target", and the hooks of recovery_target_* in
 * src/backend/access/transam/xlogrecovery.c.
 */
import { assertNever } from '../assert-never.js';
import { formatLsn, type Lsn } from '../lsn.js';
import {
  formatSettings,
  RECOVERY_SIGNAL_PATH,
  STANDBY_SIGNAL_PATH,
  type ServerSetting,
} from '../pgdata/recovery-settings.js';

export type RecoveryTarget =
  | { readonly kind: 'immediate' }
  | { readonly kind: 'name'; readonly name: string }
  /** As the server reads it, in its time zone unless the text names one. */
  | { readonly kind: 'time'; readonly time: string }
  | { readonly kind: 'xid'; readonly xid: bigint }
  | { readonly kind: 'lsn'; readonly lsn: Lsn };

export const TARGET_ACTIONS = ['pause', 'promote', 'shutdown'] as const;
export type TargetAction = (typeof TARGET_ACTIONS)[number];

export interface Recovery {
  /** `standby`: it follows a primary or an archive until it is promoted; `archive`: it recovers, then serves. */
  readonly mode: 'archive' | 'standby';
  /** Undefined: the end of what there is. */
  readonly target: RecoveryTarget | undefined;
  /** Undefined: the server's default, true. */
  readonly inclusive: boolean | undefined;
  /** Undefined: the server's default, pause. */
  readonly action: TargetAction | undefined;
  /** A number, "current" or "latest"; undefined: the server's default, latest. */
  readonly timeline: string | undefined;
  readonly restoreCommand: string | undefined;
  readonly primaryConninfo: string | undefined;
}

/** What the backup may have left over from an earlier recovery; two targets at once stop the server. */
const TARGET_SETTINGS = [
  'recovery_target',
  'recovery_target_name',
  'recovery_target_time',
  'recovery_target_xid',
  'recovery_target_lsn',
] as const;

/** Lines for the end of postgresql.auto.conf. */
export function formatRecovery(recovery: Recovery): string {
  const settings: ServerSetting[] = [];
  const set = (name: string, value: string | undefined): void => {
    if (value !== undefined) settings.push({ name, value });
  };
  const own = recovery.target === undefined ? undefined : targetSetting(recovery.target);
  // the one that counts comes last: an empty one, set after it, would take it away
  for (const name of TARGET_SETTINGS) if (name !== own?.name) set(name, '');
  if (own !== undefined) settings.push(own);
  set('recovery_target_inclusive', String(recovery.inclusive ?? true));
  set('recovery_target_action', recovery.action ?? 'pause');
  set('recovery_target_timeline', recovery.timeline ?? 'latest');
  set('restore_command', recovery.restoreCommand);
  set('primary_conninfo', recovery.primaryConninfo);
  return formatSettings(settings);
}

/** The file that makes the server recover in this way. */
export function signalPath({ mode }: Recovery): string {
  return mode === 'standby' ? STANDBY_SIGNAL_PATH : RECOVERY_SIGNAL_PATH;
}

function targetSetting(target: RecoveryTarget): ServerSetting {
  switch (target.kind) {
    case 'immediate':
      return { name: 'recovery_target', value: 'immediate' };
    case 'name':
      return { name: 'recovery_target_name', value: target.name };
    case 'time':
      return { name: 'recovery_target_time', value: target.time };
    case 'xid':
      return { name: 'recovery_target_xid', value: String(target.xid) };
    case 'lsn':
      return { name: 'recovery_target_lsn', value: formatLsn(target.lsn) };
    default:
      return assertNever(target);
  }
}
