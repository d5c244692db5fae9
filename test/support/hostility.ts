/*
 * Answers that no honest server gives, and what each of them must lead to: one clear error, nothing left of the target, and
 * nothing outside of it touched. For the tests of test/source/hostile-*.test.ts.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { BackupOptions } from '../../src/coordinator/backup-options.js';
import type { ErrorCode } from '../../src/errors.js';
import { failureOf, LIMIT, makeSandbox, runBackup } from './scripted-backup.js';
import {
  copy,
  pathsIn,
  STOP_LSN,
  tarMembers,
  type ScriptedCluster,
  type TarEntry,
} from './scripted-cluster.js';
import {
  COMPLETE,
  COPY_OUT,
  copyData,
  READY,
  resultSet,
  ScriptedServer,
  type ScriptedSession,
} from './scripted-server.js';

export type Answer = (
  command: string,
  session: ScriptedSession,
  cluster: ScriptedCluster,
) => Promise<void> | void;

export interface Hostility {
  readonly name: string;
  /** Commands that are not answered honestly. */
  readonly on: RegExp;
  readonly answer: Answer;
  /** One of these, where chance decides which of two things is seen first. */
  readonly code: ErrorCode | readonly ErrorCode[];
  readonly said: RegExp;
  readonly options?: Partial<BackupOptions>;
}

export function sends(...chunks: readonly Buffer[]): Answer {
  return (_command, session) => session.write(...chunks);
}

/** Answers with these values in place of the one row. */
export function value(...values: readonly (string | null)[]): Answer {
  return sends(resultSet([values]), COMPLETE, READY);
}

export function start(
  position: readonly string[],
  tablespaces: readonly (readonly (string | null)[])[],
  label: string,
): Answer {
  return sends(
    resultSet([position]),
    COMPLETE,
    resultSet(tablespaces, 3),
    COMPLETE,
    resultSet([[label, null]]),
    COMPLETE,
    COMPLETE,
    READY,
  );
}

/** The row of the data directory in the list of tablespaces. */
export const MAIN = [null, null, null];

/** The honest list with one more row. */
export function listing(name: string, type = 'f', size = '1'): Answer {
  return (_command, session, cluster) =>
    session.write(...cluster.lists([name, type, size, '0']), COMPLETE, COMPLETE, READY);
}

/** Lists, and sends when asked for, a directory that cannot be made. */
export function withDirectory(name: string): Answer {
  return async (command, session, cluster) => {
    cluster.directories.push(name);
    await session.write(await cluster.answer(command));
  };
}

/** Lists, and sends when asked for, one more file. */
export function withFile(name: string): Answer {
  return async (command, session, cluster) => {
    cluster.files.set(name, { content: Buffer.from('x'), mode: 0o600 });
    await session.write(await cluster.answer(command));
  };
}

/** A COPY of other members than were asked for. */
export function members(change: (honest: TarEntry[]) => TarEntry[]): Answer {
  return async (command, session, cluster) => {
    const honest = command.startsWith('STOP') ? cluster.stopMembers(true) : cluster.members(pathsIn(command));
    const after = command.startsWith('STOP')
      ? [resultSet([[STOP_LSN, '1']]), COMPLETE, COMPLETE, READY]
      : [COMPLETE, READY];
    await session.write(copy(await tarMembers(change(honest)), ...after));
  };
}

/** The honest answer, cut in its middle, and the end of the connection. */
export const half: Answer = async (command, session, cluster) => {
  const whole = await cluster.answer(command);
  await session.write(whole.subarray(0, Math.floor(whole.length / 2)));
  session.end();
};

export function endless(...chunks: readonly Buffer[]): Answer {
  return async (_command, session) => {
    while (!session.closed) {
      await session.write(...chunks);
      await nextTurn();
    }
  };
}

/** A header that says a size that no file has; tar-stream would not write it. */
export async function withSize(name: string, size: bigint): Promise<Buffer> {
  const block = Buffer.from((await tarMembers([{ name }])).subarray(0, 512));
  block[124] = 0x80;
  block.fill(0, 125, 136);
  block.writeBigUInt64BE(size, 128);
  block.fill(' ', 148, 156);
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  return block;
}

export function oversize(name: string, size: bigint): Answer {
  return async (_command, session) => session.write(COPY_OUT, copyData(await withSize(name, size)));
}

/** What pgconvoy says of that. */
export const UNASKED = /what was not asked for/;

/** A test for each. */
export function testHostilities(hostilities: readonly Hostility[]): void {
  describe('a server that cannot be trusted', LIMIT, () => {
    for (const hostility of hostilities) {
      test(hostility.name, async (t) => {
        const sandbox = await makeSandbox(t);
        const before = await sandbox.snapshot();
        let spoilt = 0;
        const script = sandbox.cluster.script(async (command, session) => {
          if (!hostility.on.test(command)) return false;
          spoilt += 1;
          await hostility.answer(command, session, sandbox.cluster);
          return true;
        });
        const server = await ScriptedServer.listen(t, script);
        const error = await failureOf(runBackup(server, sandbox.directory, hostility.options).outcome);
        assert.ok(spoilt > 0, 'the command was asked');
        assert.ok([hostility.code].flat().includes(error.code), `${error.code}: ${error.message}`);
        assert.match(error.message, hostility.said);
        assert.ok(error.message.length < 500);
        assert.deepEqual(await sandbox.snapshot(), before);
      });
    }
  });
}
