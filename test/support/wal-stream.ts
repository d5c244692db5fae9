/*
 * A walsender behind a ScriptedServer, and its messages: put together here, as PostgreSQL's documentation ("Streaming
 * Replication Protocol") says, not by the code under test.
 */
import {
  COMPLETE,
  COPY_BOTH,
  COPY_DONE,
  copyData,
  READY,
  resultSet,
  type Script,
  type ScriptedSession,
} from './scripted-server.js';

export const SYSTEM_IDENTIFIER = 7_300_000_000_000_000_001n;

export function walData(start: bigint, bytes: Buffer): Buffer {
  const head = Buffer.alloc(25);
  head.write('w', 'latin1');
  head.writeBigUInt64BE(start, 1);
  head.writeBigUInt64BE(start + BigInt(bytes.length), 9);
  return Buffer.concat([head, bytes]);
}

export function keepalive(end: bigint, wantsReply: boolean): Buffer {
  const message = Buffer.alloc(18);
  message.write('k', 'latin1');
  message.writeBigUInt64BE(end, 1);
  message.writeUInt8(wantsReply ? 1 : 0, 17);
  return message;
}

export interface ReceivedStatus {
  readonly written: bigint;
  readonly flushed: bigint;
  readonly wantsReply: boolean;
}

export function decodeStatus(message: Buffer): ReceivedStatus {
  return {
    written: message.readBigUInt64BE(1),
    flushed: message.readBigUInt64BE(9),
    wantsReply: message[33] === 1,
  };
}

export interface WalsenderScript {
  /** The timeline that IDENTIFY_SYSTEM names, 1 unless given. */
  readonly timeline?: number;
  /** What follows the CopyBothResponse to a START_REPLICATION. */
  readonly stream: (session: ScriptedSession, command: string) => Promise<void> | void;
  /** Answers a status update. */
  readonly status?: (status: ReceivedStatus, session: ScriptedSession) => Promise<void> | void;
  /** Answers a command itself (then it returns true). */
  readonly spoil?: (command: string, session: ScriptedSession) => Promise<boolean> | boolean;
}

export interface Walsender extends Script {
  /** Status updates so far. */
  readonly statuses: readonly ReceivedStatus[];
  /** The timeline ends here; this row, or none, says which one follows. */
  endTimeline(session: ScriptedSession, next: readonly string[] | undefined): Promise<void>;
}

/** An honest walsender: ends its half of a COPY when the client has ended its own. */
export function walsender(script: WalsenderScript): Walsender {
  const { timeline = 1, stream, status, spoil = () => false } = script;
  /** What the server says once the client has followed its CopyDone. */
  const endings = new Map<ScriptedSession, Buffer>();
  const end = Buffer.concat([COMPLETE, READY]);
  const statuses: ReceivedStatus[] = [];
  return {
    statuses,
    endTimeline: async (session, next) => {
      endings.set(session, next === undefined ? Buffer.alloc(0) : resultSet([next]));
      await session.write(COPY_DONE);
    },
    query: async (command, session) => {
      if (await spoil(command, session)) return;
      if (command === 'IDENTIFY_SYSTEM') {
        const row = [String(SYSTEM_IDENTIFIER), String(timeline), '0/3000000', null];
        await session.write(resultSet([row]), end);
      } else if (command.startsWith('CREATE_REPLICATION_SLOT')) {
        await session.write(resultSet([['slot', '0/3000000', null, null]]), end);
      } else if (command.startsWith('TIMELINE_HISTORY')) {
        const number = Number(command.split(' ')[1]);
        await session.write(resultSet([[historyName(number), historyText(number)]]), end);
      } else if (command.startsWith('START_REPLICATION')) {
        await session.write(COPY_BOTH);
        await stream(session, command);
      } else {
        throw new Error(`unexpected command: ${command}`);
      }
    },
    copy: async (type, payload, session) => {
      if (type === 'c') {
        await session.write(endings.get(session) ?? COPY_DONE, end);
        endings.delete(session);
        return;
      }
      const received = decodeStatus(payload);
      statuses.push(received);
      await status?.(received, session);
    },
  };
}

export function historyName(timeline: number): string {
  return `${timeline.toString(16).toUpperCase().padStart(8, '0')}.history`;
}

export function historyText(timeline: number): string {
  return `${timeline - 1}\t0/3000000\tno recovery target specified\n`;
}

/** WAL from this position on, in CopyData messages of the size that a walsender has. */
export async function sendWal(session: ScriptedSession, start: bigint, bytes: Buffer): Promise<void> {
  for (let at = 0; at < bytes.length; at += 131_072) {
    await session.write(copyData(walData(start + BigInt(at), bytes.subarray(at, at + 131_072))));
  }
}
