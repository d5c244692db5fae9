/*
 * The options of `restore` that say how far the restored server recovers, checked before anything is written: a server
 * would find a mistake only when it starts. Rules: the check hooks of PostgreSQL's src/backend/access/transam/xlogrecovery.c.
 */
import { type Command, Option } from 'commander';
import { ConvoyError } from '../errors.js';
import { parseLsn } from '../lsn.js';
import {
  TARGET_ACTIONS,
  type Recovery,
  type RecoveryTarget,
  type TargetAction,
} from '../restore/recovery.js';

/** MAXFNAMELEN - 1. */
const MAX_NAME_BYTES = 63;
const MAX_TIMELINE = 0xffff_ffff;
const MAX_XID = 0xffff_ffff_ffff_ffffn;
/** A date, a time, a time zone, in that order; the server understands more than is taken here. */
const TIME =
  /^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])([ T]([01]\d|2[0-4]):[0-5]\d(:[0-5]\d|:60)?(\.\d+)?( ?(Z|[+-]\d\d(:?\d\d)?| [A-Za-z][A-Za-z0-9_/+-]*))?)?$/;

export interface RecoveryFlags {
  readonly targetTime?: RecoveryTarget;
  readonly targetLsn?: RecoveryTarget;
  readonly targetXid?: RecoveryTarget;
  readonly targetName?: RecoveryTarget;
  readonly targetImmediate?: boolean;
  readonly targetTimeline?: string;
  readonly targetAction?: TargetAction;
  readonly targetInclusive?: boolean;
  readonly restoreCommand?: string;
  readonly standby?: boolean;
  readonly primaryConninfo?: string;
}

export function addRecoveryOptions(command: Command): Command {
  return command
    .optionsGroup('Options controlling recovery:')
    .option('--target-time <time>', 'recover up to this time ("2026-11-21 12:00:00+01")', parseTime)
    .option('--target-lsn <lsn>', 'recover up to this WAL position', parseTargetLsn)
    .option('--target-xid <xid>', 'recover up to the end of this transaction', parseXid)
    .option('--target-name <name>', 'recover up to this restore point', parseName)
    .option('--target-immediate', 'recover no further than the backup needs')
    .option(
      '--target-timeline <timeline>',
      'recover along this timeline: a number, "current" or "latest"',
      parseTimeline,
    )
    .addOption(
      new Option('--target-action <action>', 'what the server does at the target (default: pause)').choices(
        TARGET_ACTIONS,
      ),
    )
    .option(
      '--target-inclusive <boolean>',
      'whether what is at the target itself is recovered (default: true)',
      parseBoolean,
    )
    .option('--restore-command <command>', 'fetch archived WAL with this command (%f, %p)', parseCommand)
    .option('--standby', 'make a standby of the restored server')
    .option('--primary-conninfo <connstr>', 'connection string to the primary, for a standby', parseConninfo);
}

/** @returns undefined where nothing is asked for @throws ConvoyError `usage` for options that contradict each other */
export function resolveRecovery(flags: RecoveryFlags): Recovery | undefined {
  const targets = [
    flags.targetTime,
    flags.targetLsn,
    flags.targetXid,
    flags.targetName,
    flags.targetImmediate === true ? ({ kind: 'immediate' } as const) : undefined,
  ].filter((target) => target !== undefined);
  const [target] = targets;
  const { targetAction, targetInclusive, targetTimeline, restoreCommand, primaryConninfo } = flags;
  const standby = flags.standby === true;
  if (targets.length > 1) {
    throw usage(
      'multiple recovery targets specified',
      'give one of --target-time, -lsn, -xid, -name, -immediate',
    );
  }
  if (target === undefined && (targetAction !== undefined || targetInclusive !== undefined)) {
    throw usage('--target-action and --target-inclusive need a recovery target');
  }
  if (standby && target !== undefined)
    throw usage('--standby and a recovery target are incompatible options');
  if (!standby && primaryConninfo !== undefined) throw usage('--primary-conninfo needs --standby');
  if (standby && primaryConninfo === undefined && restoreCommand === undefined) {
    throw usage('--standby needs --primary-conninfo or --restore-command');
  }
  if (!standby && target === undefined && targetTimeline === undefined && restoreCommand === undefined) {
    return undefined;
  }
  if (!standby && restoreCommand === undefined) {
    throw usage('recovery needs --restore-command', 'it fetches the WAL that was archived after the backup');
  }
  return {
    mode: standby ? 'standby' : 'archive',
    target,
    inclusive: targetInclusive,
    action: targetAction,
    timeline: targetTimeline,
    restoreCommand,
    primaryConninfo,
  };
}

function usage(message: string, hint?: string): ConvoyError {
  return new ConvoyError('usage', message, { hint });
}

function parseTime(text: string): RecoveryTarget {
  if (TIME.test(text)) return { kind: 'time', time: text };
  throw usage(
    `invalid value "${text}" for option --target-time`,
    'a date and time such as "2026-11-21 12:00:00+01"; without a time zone it is in that of the server',
  );
}

function parseTargetLsn(text: string): RecoveryTarget {
  const lsn = parseLsn(text);
  if (lsn !== undefined) return { kind: 'lsn', lsn };
  throw usage(`invalid value "${text}" for option --target-lsn`, 'a WAL position such as "16/B374D848"');
}

function parseXid(text: string): RecoveryTarget {
  const xid = /^\d{1,20}$/.test(text) ? BigInt(text) : 0n;
  // 0 to 2 are no transactions (FirstNormalTransactionId)
  if (xid >= 3n && xid <= MAX_XID) return { kind: 'xid', xid };
  throw usage(`invalid value "${text}" for option --target-xid`);
}

function parseName(name: string): RecoveryTarget {
  if (name === '' || hasControls(name)) throw usage(`invalid value "${name}" for option --target-name`);
  if (Buffer.byteLength(name) <= MAX_NAME_BYTES) return { kind: 'name', name };
  throw usage(`option --target-name is too long (maximum ${MAX_NAME_BYTES} characters)`);
}

function parseTimeline(text: string): string {
  if (text === 'current' || text === 'latest') return text;
  if (/^\d{1,10}$/.test(text) && Number(text) >= 1 && Number(text) <= MAX_TIMELINE) return text;
  throw usage(
    `invalid value "${text}" for option --target-timeline`,
    'a number in decimal, "current" or "latest"',
  );
}

function parseBoolean(text: string): boolean {
  if (/^(true|on|yes|1)$/i.test(text)) return true;
  if (/^(false|off|no|0)$/i.test(text)) return false;
  throw usage(`invalid value "${text}" for option --target-inclusive`, '"true" or "false"');
}

function parseCommand(text: string): string {
  if (text.trim() === '' || text.includes('\n'))
    throw usage(`invalid value "${text}" for option --restore-command`);
  return text;
}

function parseConninfo(text: string): string {
  if (text.trim() === '' || text.includes('\n'))
    throw usage(`invalid value "${text}" for option --primary-conninfo`);
  return text;
}

function hasControls(text: string): boolean {
  return /\p{Cc}/u.test(text);
}
