/*
 * Whole backups from servers that cannot be trusted. Whatever the server does, there is one clear error, nothing is left of the
 * target, and nothing outside of it has been touched. The honest server comes first.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import * as fs from 'node:fs/promises';
import path from 'node:path';
import { describe, test, type TestContext } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { backup } from '../../src/coordinator/backup.js';
import type { BackupOptions } from '../../src/coordinator/backup-options.js';
import type { BackupReport } from '../../src/coordinator/backup-report.js';
import { ConvoyError, type ErrorCode } from '../../src/errors.js';
import { formatLsn } from '../../src/lsn.js';
import { temporaryDirectory } from '../support/cleanup.js';
import {
  BACKUP_LABEL,
  controlFile,
  copy,
  MTIME,
  pathsIn,
  ScriptedCluster,
  SEGMENT_BYTES,
  SEGMENT_NAME,
  START_LSN,
  STOP_LSN,
  tarMembers,
  VERSION_DIRECTORY,
  type TarEntry,
} from '../support/scripted-cluster.js';
import {
  columns,
  COMPLETE,
  COPY_OUT,
  copyData,
  errorMessage,
  head,
  message,
  notice,
  READY,
  resultSet,
  row,
  ScriptedServer,
  welcome,
  type ScriptedSession,
} from '../support/scripted-server.js';

const LIMIT = { timeout: 30_000 };

interface Sandbox {
  readonly cluster: ScriptedCluster;
  readonly directory: string;
  /** Paths, kinds and contents of everything around the target. */
  snapshot(): Promise<string[]>;
}

async function makeSandbox(t: TestContext): Promise<Sandbox> {
  const parent = await temporaryDirectory(t);
  await fs.mkdir(path.join(parent, 'outside'));
  await fs.writeFile(path.join(parent, 'outside', 'precious'), 'precious');
  return {
    cluster: new ScriptedCluster(path.join(parent, 'space')),
    directory: path.join(parent, 'backup'),
    snapshot: () => describeTree(parent),
  };
}

async function describeTree(parent: string): Promise<string[]> {
  const entries = await fs.readdir(parent, { recursive: true, withFileTypes: true });
  const lines = entries.map(async (entry) => {
    const at = path.join(entry.parentPath, entry.name);
    const content = entry.isFile() ? await fs.readFile(at, 'utf8') : '';
    return `${path.relative(parent, at)} ${entry.isDirectory()} ${content}`;
  });
  return (await Promise.all(lines)).toSorted();
}

interface Run {
  readonly outcome: Promise<BackupReport>;
  readonly warnings: string[];
}

function runBackup(
  server: ScriptedServer,
  directory: string,
  more: Partial<BackupOptions> = {},
  signal?: AbortSignal,
): Run {
  const warnings: string[] = [];
  const options: BackupOptions = {
    connection: server.settings(),
    source: 'walsender',
    askPassword: undefined,
    target: { kind: 'directory', directory, tablespaceMappings: [], walDirectory: undefined },
    jobs: 1,
    maxRetries: 3,
    label: 'scripted',
    fastCheckpoint: true,
    wal: 'fetch',
    manifestChecksums: 'SHA256',
    encodeManifestPaths: false,
    verifyPageChecksums: true,
    maxRateBytesPerSecond: undefined,
    recoveryConf: undefined,
    sync: false,
    syncMethod: 'fsync',
    keepOnFailure: false,
    ...more,
  };
  const events = {
    notice: () => {},
    detail: () => {},
    warning: (text: string) => void warnings.push(text),
    phaseStarted: () => {},
    copyStarted: () => {},
    copyEnded: () => {},
  };
  return { outcome: backup(options, events, signal ?? new AbortController().signal), warnings };
}

describe('an honest server', LIMIT, () => {
  for (const jobs of [1, 3]) {
    test(`is backed up over ${jobs} connections`, async (t) => {
      const { cluster, directory } = await makeSandbox(t);
      const server = await ScriptedServer.listen(t, cluster.script());
      const report = await runBackup(server, directory, { jobs, sync: jobs === 3 }).outcome;
      assert.equal(formatLsn(report.startLsn), START_LSN);
      assert.equal(formatLsn(report.stopLsn), STOP_LSN);
      const { timeline, vanishedFiles, retries, hasBadPages, source, phases } = report;
      assert.deepEqual(
        [timeline, vanishedFiles, retries, hasBadPages, source],
        [1, 0, 0, false, 'walsender'],
      );
      assert.deepEqual(
        phases.map(({ phase }) => phase),
        ['open', 'start', 'list', 'copy', 'stop', 'sync'],
      );
      await assertComplete(cluster, directory);
    });
  }
});

/** Every file is there with its bytes, mode and time, linked, labelled, and in the manifest. */
async function assertComplete(cluster: ScriptedCluster, directory: string): Promise<void> {
  const expected = new Map<string, Buffer>([
    ['backup_label', Buffer.from(BACKUP_LABEL)],
    ['global/pg_control', controlFile()],
    [`pg_wal/archive_status/${SEGMENT_NAME}.done`, Buffer.alloc(0)],
  ]);
  for (const [name, { content, mode }] of cluster.files) {
    const target = name.startsWith('./')
      ? name.slice(2)
      : `pg_tblspc/16384/${path.relative(cluster.tablespace, name)}`;
    expected.set(target, content);
    const stats = await fs.stat(path.join(directory, target));
    assert.equal(stats.mode & 0o7777, mode, target);
    assert.equal(stats.mtimeMs, MTIME * 1000, target);
  }
  for (const [target, content] of expected) {
    assert.deepEqual(await fs.readFile(path.join(directory, target)), content, target);
  }
  assert.equal((await fs.readFile(path.join(directory, 'pg_wal', SEGMENT_NAME))).length, SEGMENT_BYTES);
  assert.equal(await fs.readlink(path.join(directory, 'pg_tblspc', '16384')), cluster.tablespace);
  const manifest = JSON.parse(await fs.readFile(path.join(directory, 'backup_manifest'), 'utf8')) as {
    readonly Files: readonly { readonly Path: string; readonly Checksum: string }[];
  };
  assert.deepEqual(
    new Map(manifest.Files.map((file) => [file.Path, file.Checksum] as const)),
    new Map([...expected].map(([target, content]) => [target, sha256(content)] as const)),
  );
}

function sha256(content: Buffer): string {
  return createHash('sha256').update(content).digest('hex');
}

type Answer = (command: string, session: ScriptedSession, cluster: ScriptedCluster) => Promise<void> | void;

interface Hostility {
  readonly name: string;
  /** Commands that are not answered honestly. */
  readonly on: RegExp;
  readonly answer: Answer;
  /** One of these, where chance decides which of two things is seen first. */
  readonly code: ErrorCode | readonly ErrorCode[];
  readonly said: RegExp;
  readonly options?: Partial<BackupOptions>;
}

function sends(...chunks: readonly Buffer[]): Answer {
  return (_command, session) => session.write(...chunks);
}

/** Answers with these values in place of the one row. */
function value(...values: readonly (string | null)[]): Answer {
  return sends(resultSet([values]), COMPLETE, READY);
}

function start(
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

const MAIN = [null, null, null];

/** The honest list with one more row. */
function listing(name: string, type = 'f', size = '1'): Answer {
  return (_command, session, cluster) =>
    session.write(...cluster.lists([name, type, size, '0']), COMPLETE, COMPLETE, READY);
}

/** Lists, and sends when asked for, a directory that cannot be made. */
function withDirectory(name: string): Answer {
  return async (command, session, cluster) => {
    cluster.directories.push(name);
    await session.write(await cluster.answer(command));
  };
}

/** Lists, and sends when asked for, one more file. */
function withFile(name: string): Answer {
  return async (command, session, cluster) => {
    cluster.files.set(name, { content: Buffer.from('x'), mode: 0o600 });
    await session.write(await cluster.answer(command));
  };
}

/** A COPY of other members than were asked for. */
function members(change: (honest: TarEntry[]) => TarEntry[]): Answer {
  return async (command, session, cluster) => {
    const honest = command.startsWith('STOP') ? cluster.stopMembers(true) : cluster.members(pathsIn(command));
    const after = command.startsWith('STOP')
      ? [resultSet([[STOP_LSN, '1']]), COMPLETE, COMPLETE, READY]
      : [COMPLETE, READY];
    await session.write(copy(await tarMembers(change(honest)), ...after));
  };
}

/** The honest answer, cut in its middle, and the end of the connection. */
const half: Answer = async (command, session, cluster) => {
  const whole = await cluster.answer(command);
  await session.write(whole.subarray(0, Math.floor(whole.length / 2)));
  session.end();
};

function endless(...chunks: readonly Buffer[]): Answer {
  return async (_command, session) => {
    while (!session.closed) {
      await session.write(...chunks);
      await nextTurn();
    }
  };
}

/** A header that says a size that no file has; tar-stream would not write it. */
async function withSize(name: string, size: bigint): Promise<Buffer> {
  const block = Buffer.from((await tarMembers([{ name }])).subarray(0, 512));
  block[124] = 0x80;
  block.fill(0, 125, 136);
  block.writeBigUInt64BE(size, 128);
  block.fill(' ', 148, 156);
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  return block;
}

function oversize(name: string, size: bigint): Answer {
  return async (_command, session) => session.write(COPY_OUT, copyData(await withSize(name, size)));
}

const PROBE = /^SEND_BACKUP_FILES$/;
const IDENTIFY = /^IDENTIFY_SYSTEM/;
const SEGMENT_SIZE = /wal_segment_size/;
const START = /^START_BACKUP/;
const LIST = /^SEND_BACKUP_FILELIST/;
const DIRECTORIES = /^SEND_BACKUP_FILES \('[^']*(?:base|PG_15_\d+)'/;
const FILES = /^SEND_BACKUP_FILES \('.*(?:PG_VERSION|112)/;
const STOP = /^STOP_BACKUP/;
const EVERY_STEP: readonly (readonly [name: string, on: RegExp])[] = [
  ['when probed', PROBE],
  ['to IDENTIFY_SYSTEM', IDENTIFY],
  ['to SHOW', SEGMENT_SIZE],
  ['to START_BACKUP', START],
  ['to SEND_BACKUP_FILELIST', LIST],
  ['for directories', DIRECTORIES],
  ['for files', FILES],
  ['to STOP_BACKUP', STOP],
];

const UNASKED = /what was not asked for/;

const HOSTILE: readonly Hostility[] = [
  ...EVERY_STEP.flatMap(([name, on]): Hostility[] => [
    {
      name: `garbage ${name}`,
      on,
      answer: sends(Buffer.from('HTTP/1.1 400 Bad Request\r\n\r\n')),
      code: 'untrusted_peer',
      said: /invalid message/,
    },
    {
      name: `a length of 2 GiB ${name}`,
      on,
      answer: sends(head('D', 2 ** 31)),
      code: 'untrusted_peer',
      said: /invalid message/,
    },
    {
      name: `an error without its end ${name}`,
      on,
      answer: sends(message('E', 'SERROR')),
      code: 'untrusted_peer',
      said: /invalid message/,
    },
    {
      name: `half an answer and the end ${name}`,
      on,
      answer: half,
      code: 'connection_lost',
      said: /lost connection to server/,
    },
  ]),
  ...EVERY_STEP.slice(1, 5).map(([name, on]): Hostility => ({
    name: `copy data that nobody asked for ${name}`,
    on,
    answer: sends(COPY_OUT, copyData(Buffer.from('x'))),
    code: 'untrusted_peer',
    said: /nobody asked for/,
  })),
  ...EVERY_STEP.slice(3).map(([name, on]): Hostility => ({
    name: `errors without end ${name}`,
    on,
    answer: endless(errorMessage('XX000', 'and again')),
    code: ['server_error', 'connection_lost'],
    said: /^ERROR: {2}and again$/,
  })),
  ...EVERY_STEP.slice(1, 5).map(([name, on]): Hostility => ({
    name: `no rows ${name}`,
    on,
    answer: sends(COMPLETE, READY),
    code: on === LIST ? 'server_error' : 'untrusted_peer',
    said: /./,
  })),

  {
    name: 'no parallel commands',
    on: PROBE,
    answer: sends(
      errorMessage('42601', 'cannot execute SQL commands in WAL sender for physical replication'),
      READY,
    ),
    code: 'server_unsupported',
    said: /does not know the parallel backup commands/,
  },
  {
    name: 'a system identifier of letters',
    on: IDENTIFY,
    answer: value('x; rm', '1', START_LSN, null),
    code: 'untrusted_peer',
    said: /unexpected answer to IDENTIFY_SYSTEM/,
  },
  {
    name: 'two systems',
    on: IDENTIFY,
    answer: sends(resultSet([['1'], ['2']]), COMPLETE, READY),
    code: 'untrusted_peer',
    said: /number of rows/,
  },
  ...['0MB', '3MB', '2GB', '16', '-16MB', '16MB\n', '512kB', ''].map((text): Hostility => ({
    name: `a WAL segment size of ${JSON.stringify(text)}`,
    on: SEGMENT_SIZE,
    answer: value(text),
    code: 'untrusted_peer',
    said: /unexpected answer to wal_segment_size/,
  })),
  ...['4777', '0777', '0000', '', 'rwx'].map((text): Hostility => ({
    name: `a data directory mode of "${text}"`,
    on: /data_directory_mode/,
    answer: value(text),
    code: 'untrusted_peer',
    said: /unexpected answer to data_directory_mode/,
  })),

  {
    name: 'a start at no position',
    on: START,
    answer: start(['nowhere', '1'], [MAIN], BACKUP_LABEL),
    code: 'untrusted_peer',
    said: /invalid position row/,
  },
  {
    name: 'a start on timeline 0',
    on: START,
    answer: start([START_LSN, '0'], [MAIN], BACKUP_LABEL),
    code: 'untrusted_peer',
    said: /invalid position row/,
  },
  {
    name: "another backup's label",
    on: START,
    answer: start(['0/3000028', '1'], [MAIN], BACKUP_LABEL),
    code: 'untrusted_peer',
    said: /label does not match/,
  },
  {
    name: 'a label that is none',
    on: START,
    answer: start([START_LSN, '1'], [MAIN], 'LABEL: x\n'),
    code: 'file_damaged',
    said: /START WAL LOCATION/,
  },
  {
    name: 'a label of 2 MiB',
    on: START,
    answer: start([START_LSN, '1'], [MAIN], BACKUP_LABEL + 'x'.repeat(2 ** 21)),
    code: 'untrusted_peer',
    said: /invalid label row/,
  },
  {
    name: 'no data directory',
    on: START,
    answer: start([START_LSN, '1'], [], BACKUP_LABEL),
    code: 'untrusted_peer',
    said: /no data directory/,
  },
  {
    name: 'a relative tablespace',
    on: START,
    answer: start([START_LSN, '1'], [['16384', '../outside', null], MAIN], BACKUP_LABEL),
    code: 'untrusted_peer',
    said: /invalid location/,
  },
  {
    name: 'a tablespace with a way up',
    on: START,
    answer: start([START_LSN, '1'], [['16384', '/tmp/../etc', null], MAIN], BACKUP_LABEL),
    code: 'untrusted_peer',
    said: /invalid location/,
  },

  {
    name: 'a list with a parent',
    on: LIST,
    answer: listing('./../outside/precious'),
    code: 'untrusted_peer',
    said: /invalid path/,
  },
  {
    name: 'a list with an absolute path',
    on: LIST,
    answer: listing('/etc/passwd'),
    code: 'untrusted_peer',
    said: /invalid path/,
  },
  {
    name: 'a list with a link out',
    on: LIST,
    answer: listing('./base/6', 'l'),
    code: 'untrusted_peer',
    said: /invalid path/,
  },
  {
    name: 'a list with a file below a link',
    on: LIST,
    answer: listing('./pg_tblspc/16384/x'),
    code: 'untrusted_peer',
    said: /invalid path/,
  },
  {
    name: 'a list with a file twice',
    on: LIST,
    answer: listing('./PG_VERSION'),
    code: 'untrusted_peer',
    said: /listed twice/,
  },
  {
    name: 'a list with a socket',
    on: LIST,
    answer: listing('./socket', 's'),
    code: 'untrusted_peer',
    said: /invalid file list row/,
  },
  {
    name: 'a list with a size of letters',
    on: LIST,
    answer: listing('./x', 'f', 'big'),
    code: 'untrusted_peer',
    said: /invalid size/,
  },
  {
    name: 'a list with a directory before its parent',
    on: LIST,
    answer: withDirectory('./no/parent'),
    code: 'target_io',
    said: /could not create directory .*No such file or directory/,
  },
  {
    name: 'a list with a file in a file',
    on: LIST,
    answer: withFile('./PG_VERSION/x'),
    code: 'target_io',
    said: /could not create file .*Not a directory/,
  },
  {
    name: 'one result set too few',
    on: LIST,
    answer: (_command, session, cluster) => session.write(cluster.lists()[0] ?? READY, COMPLETE, READY),
    code: 'server_error',
    said: /tablespace was created or dropped/,
  },
  {
    name: 'rows before their columns',
    on: LIST,
    answer: sends(row('./x', 'f', '1', '1'), COMPLETE, READY),
    code: 'server_error',
    said: /tablespace was created or dropped/,
  },
  {
    name: 'rows of too few columns',
    on: LIST,
    answer: sends(columns('path'), row('./x'), COMPLETE, READY),
    code: 'untrusted_peer',
    said: /invalid result row/,
  },

  {
    name: 'a directory as a link',
    on: DIRECTORIES,
    answer: members((honest) => honest.map((entry) => ({ ...entry, type: 'symlink', linkname: '/tmp' }))),
    code: 'untrusted_peer',
    said: UNASKED,
  },
  {
    name: 'another directory',
    on: DIRECTORIES,
    answer: members(() => [{ name: '../outside/new/', type: 'directory' }]),
    code: 'untrusted_peer',
    said: UNASKED,
  },

  ...[
    '../outside/precious',
    '/etc/passwd',
    'base/../../outside/x',
    './PG_VERSION',
    'PG_VERSION/',
    'base/1/999',
    '',
    VERSION_DIRECTORY,
  ].map((name): Hostility => ({
    name: `a member "${name}" that nobody asked for`,
    on: FILES,
    answer: members((honest) => [{ name, content: Buffer.from('evil') }, ...honest]),
    code: 'untrusted_peer',
    said: UNASKED,
  })),
  {
    name: 'a member twice',
    on: FILES,
    answer: members((honest) => honest.flatMap((entry) => [entry, entry])),
    code: 'untrusted_peer',
    said: UNASKED,
  },
  {
    name: 'members in another order',
    on: FILES,
    answer: members((honest) => honest.toReversed()),
    code: 'untrusted_peer',
    said: UNASKED,
  },
  {
    name: 'a link in place of a file',
    on: FILES,
    answer: members((honest) =>
      honest.map(({ name }) => ({ name, type: 'symlink', linkname: '/etc/passwd' })),
    ),
    code: 'untrusted_peer',
    said: UNASKED,
  },
  {
    name: 'a hard link in place of a file',
    on: FILES,
    answer: members((honest) =>
      honest.map(({ name }) => ({ name, type: 'link', linkname: '../outside/precious' })),
    ),
    code: 'untrusted_peer',
    said: /tar header/,
  },
  {
    name: 'a directory in place of a file',
    on: FILES,
    answer: members((honest) => honest.map(({ name }) => ({ name, type: 'directory' }))),
    code: 'untrusted_peer',
    said: UNASKED,
  },
  {
    name: 'a file of 2^50 bytes',
    on: FILES,
    answer: oversize('PG_VERSION', 2n ** 50n),
    code: 'untrusted_peer',
    said: /impossible size/,
  },
  {
    name: 'a relation segment past 1 GiB',
    on: FILES,
    answer: oversize('base/1/112', 2n ** 30n + 1n),
    code: 'untrusted_peer',
    said: /impossible size/,
  },
  {
    name: 'a size past all numbers',
    on: FILES,
    answer: oversize('PG_VERSION', 2n ** 63n),
    code: 'untrusted_peer',
    said: /invalid number/,
  },
  {
    name: 'a stream that is no tar',
    on: FILES,
    answer: sends(copy(Buffer.alloc(600, 'x'), COMPLETE, READY)),
    code: 'untrusted_peer',
    said: /tar header/,
  },
  {
    name: 'a stream that ends in a member',
    on: FILES,
    answer: async (command, session, cluster) =>
      session.write(
        copy((await tarMembers(cluster.members(pathsIn(command)))).subarray(0, 2000), COMPLETE, READY),
      ),
    code: 'untrusted_peer',
    said: /ended inside a member/,
  },
  {
    name: 'an error inside the stream',
    on: FILES,
    answer: sends(COPY_OUT, errorMessage('XX000', 'file name too long for tar format'), READY),
    code: 'server_error',
    said: /file name too long/,
  },
  {
    name: 'a checksum failure before the data is complete',
    on: FILES,
    answer: sends(
      COPY_OUT,
      copyData(Buffer.alloc(100)),
      errorMessage('XX001', 'checksum verification failure'),
      READY,
    ),
    code: 'untrusted_peer',
    said: /ended inside a member/,
  },

  {
    name: 'a damaged pg_control',
    on: STOP,
    answer: members((honest) => [
      { name: 'global/pg_control', content: Buffer.alloc(8192, 1) },
      ...honest.slice(1),
    ]),
    code: 'file_damaged',
    said: /invalid checksum in control file/,
  },
  {
    name: "another cluster's pg_control",
    on: STOP,
    answer: members((honest) => [
      { name: 'global/pg_control', content: controlFile(5n) },
      ...honest.slice(1),
    ]),
    code: 'untrusted_peer',
    said: /another cluster/,
  },
  {
    name: 'no pg_control',
    on: STOP,
    answer: members((honest) => honest.slice(1)),
    code: 'untrusted_peer',
    said: /did not send "global\/pg_control"/,
  },
  {
    name: 'pg_control last',
    on: STOP,
    answer: members((honest) => honest.toReversed()),
    code: 'untrusted_peer',
    said: UNASKED,
  },
  {
    name: 'no WAL',
    on: STOP,
    answer: members((honest) => honest.slice(0, 1)),
    code: 'wal_missing',
    said: /did not send WAL segment/,
  },
  {
    name: 'a short segment',
    on: STOP,
    answer: members((honest) =>
      honest.map((entry) => ({
        ...entry,
        ...(entry.name.endsWith(SEGMENT_NAME) ? { content: Buffer.alloc(512) } : {}),
      })),
    ),
    code: 'untrusted_peer',
    said: UNASKED,
  },
  {
    name: 'WAL that was not asked for',
    on: STOP,
    answer: members((honest) => honest),
    options: { wal: 'none' },
    code: 'untrusted_peer',
    said: UNASKED,
  },
  {
    name: 'a way out with WAL',
    on: STOP,
    answer: members((honest) => [
      ...honest,
      { name: 'pg_wal/../../outside/precious', content: Buffer.from('evil') },
    ]),
    code: 'untrusted_peer',
    said: UNASKED,
  },
  {
    name: 'backup_label in the stream',
    on: STOP,
    answer: members((honest) => [...honest, { name: 'backup_label', content: Buffer.from('evil') }]),
    code: 'untrusted_peer',
    said: UNASKED,
  },
  {
    name: 'no position at the end',
    on: STOP,
    answer: async (_command, session, cluster) =>
      session.write(copy(await tarMembers(cluster.stopMembers(true)), COMPLETE, READY)),
    code: 'untrusted_peer',
    said: /number of rows/,
  },
  {
    name: 'an end before the start',
    on: STOP,
    answer: async (_command, session, cluster) =>
      session.write(
        copy(await tarMembers(cluster.stopMembers(true)), resultSet([['0/1000000', '1']]), COMPLETE, READY),
      ),
    code: 'untrusted_peer',
    said: /ended before it started/,
  },
  {
    name: 'another timeline at the end',
    on: STOP,
    answer: async (_command, session, cluster) =>
      session.write(
        copy(await tarMembers(cluster.stopMembers(true)), resultSet([[STOP_LSN, '2']]), COMPLETE, READY),
      ),
    code: 'server_error',
    said: /another timeline/,
  },
];

describe('a server that cannot be trusted', LIMIT, () => {
  for (const hostility of HOSTILE) {
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

async function failureOf(promise: Promise<unknown>): Promise<ConvoyError> {
  const outcome = await promise.then(
    () => undefined,
    (error: unknown) => error,
  );
  assert.ok(outcome instanceof ConvoyError, `a ConvoyError, not ${String(outcome)}`);
  return outcome;
}

describe('a backup that fails', LIMIT, () => {
  test('leaves what was made with keepOnFailure, but no manifest', async (t) => {
    const { cluster, directory } = await makeSandbox(t);
    const server = await ScriptedServer.listen(
      t,
      cluster.script((command, session) => spoilAt(STOP, command, () => session.end())),
    );
    const error = await failureOf(runBackup(server, directory, { keepOnFailure: true }).outcome);
    assert.equal(error.code, 'connection_lost');
    const names = await fs.readdir(directory);
    assert.ok(names.includes('PG_VERSION'));
    assert.ok(!names.includes('backup_manifest') && !names.includes('backup_label'));
    assert.ok(!(await fs.readdir(path.join(directory, 'global'))).includes('pg_control'));
  });

  test('leaves an empty directory that was there, and tablespace directories that were', async (t) => {
    const sandbox = await makeSandbox(t);
    await fs.mkdir(sandbox.directory);
    await fs.mkdir(sandbox.cluster.tablespace);
    const before = await sandbox.snapshot();
    const script = sandbox.cluster.script((command, session) =>
      spoilAt(FILES, command, () => session.reset()),
    );
    const server = await ScriptedServer.listen(t, script);
    const error = await failureOf(runBackup(server, sandbox.directory).outcome);
    assert.equal(error.code, 'connection_lost');
    assert.deepEqual(await sandbox.snapshot(), before);
  });

  test('asks nothing of the server where the target is not empty', async (t) => {
    const sandbox = await makeSandbox(t);
    await fs.mkdir(sandbox.directory);
    await fs.writeFile(path.join(sandbox.directory, 'mine'), 'mine');
    const before = await sandbox.snapshot();
    const server = await ScriptedServer.listen(t, sandbox.cluster.script());
    const error = await failureOf(runBackup(server, sandbox.directory).outcome);
    assert.equal(error.code, 'target_refused');
    assert.equal(server.sessions.length, 0);
    assert.deepEqual(await sandbox.snapshot(), before);
  });

  test('touches nothing where a tablespace directory is not empty', async (t) => {
    const sandbox = await makeSandbox(t);
    await fs.mkdir(sandbox.cluster.tablespace);
    await fs.writeFile(path.join(sandbox.cluster.tablespace, 'mine'), 'mine');
    const before = await sandbox.snapshot();
    const server = await ScriptedServer.listen(t, sandbox.cluster.script());
    const error = await failureOf(runBackup(server, sandbox.directory).outcome);
    assert.equal(error.code, 'target_refused');
    assert.deepEqual(await sandbox.snapshot(), before);
  });

  for (const [name, on] of EVERY_STEP) {
    test(`is cancelled ${name} at once`, async (t) => {
      const sandbox = await makeSandbox(t);
      const before = await sandbox.snapshot();
      const controller = new AbortController();
      const reason = new ConvoyError('cancelled', 'interrupted by SIGINT');
      // the server falls silent
      const script = sandbox.cluster.script((command) =>
        spoilAt(on, command, () => controller.abort(reason)),
      );
      const server = await ScriptedServer.listen(t, script);
      const { outcome } = runBackup(server, sandbox.directory, { jobs: 2 }, controller.signal);
      const started = performance.now();
      assert.equal(await failureOf(outcome), reason);
      assert.ok(performance.now() - started < 5000);
      assert.deepEqual(await sandbox.snapshot(), before);
      assert.ok(server.sessions.every((session) => session.closed));
    });
  }
});

describe('a backup at the lowest rate', LIMIT, () => {
  test('is cancelled at once, too', async (t) => {
    const sandbox = await makeSandbox(t);
    const before = await sandbox.snapshot();
    const controller = new AbortController();
    const script = sandbox.cluster.script(async (command, session) => {
      if (!STOP.test(command)) return false;
      // more WAL than a minute can take
      await session.write((await sandbox.cluster.answer(command)).subarray(0, 600_000));
      return true;
    });
    const server = await ScriptedServer.listen(t, script);
    const options = { maxRateBytesPerSecond: 10_000, wal: 'fetch' } as const;
    sandbox.cluster.files.clear();
    const { outcome } = runBackup(server, sandbox.directory, options, controller.signal);
    const failure = failureOf(outcome);
    const written = path.join(sandbox.directory, 'pg_wal', SEGMENT_NAME);
    while ((await fs.stat(written).catch(() => ({ size: 0 }))).size === 0) await nextTurn();
    controller.abort(new ConvoyError('cancelled', 'interrupted by SIGINT'));
    assert.equal((await failure).code, 'cancelled');
    assert.deepEqual(await sandbox.snapshot(), before);
  });
});

function spoilAt(on: RegExp, command: string, action: () => void): boolean {
  if (!on.test(command)) return false;
  action();
  return true;
}

describe('a connection that breaks while files are copied', LIMIT, () => {
  test('is opened anew, and its files are written anew', async (t) => {
    const { cluster, directory } = await makeSandbox(t);
    let broken = 0;
    const script = cluster.script(async (command, session) => {
      if (!FILES.test(command) || broken === 3) return false;
      broken += 1;
      const whole = await cluster.answer(command);
      await session.write(whole.subarray(0, 20_000 * broken));
      if (broken === 2) session.reset();
      else session.end();
      return true;
    });
    const server = await ScriptedServer.listen(t, script);
    const report = await runBackup(server, directory).outcome;
    assert.equal(report.retries, 3);
    await assertComplete(cluster, directory);
  });

  test('that is the coordinator’s own ends the backup, while workers still copy', async (t) => {
    const sandbox = await makeSandbox(t);
    const before = await sandbox.snapshot();
    const script = sandbox.cluster.script((command) =>
      spoilAt(FILES, command, () => server.sessions[0]?.reset()),
    );
    const server: ScriptedServer = await ScriptedServer.listen(t, script);
    const error = await failureOf(runBackup(server, sandbox.directory).outcome);
    assert.equal(error.code, 'connection_lost');
    assert.deepEqual(await sandbox.snapshot(), before);
  });
});

describe('oddities that are no failure', LIMIT, () => {
  test('files that vanish are counted, and are in neither target nor manifest', async (t) => {
    const { cluster, directory } = await makeSandbox(t);
    const gone = './base/1/112';
    const script = cluster.script(async (command, session) => {
      if (!FILES.test(command)) return false;
      await session.write(
        copy(
          await tarMembers(cluster.members(pathsIn(command).filter((name) => name !== gone))),
          COMPLETE,
          READY,
        ),
      );
      return true;
    });
    const server = await ScriptedServer.listen(t, script);
    const report = await runBackup(server, directory, { sync: true }).outcome;
    assert.equal(report.vanishedFiles, 1);
    await assert.rejects(fs.stat(path.join(directory, gone)), { code: 'ENOENT' });
    assert.ok(!(await fs.readFile(path.join(directory, 'backup_manifest'), 'utf8')).includes('base/1/112'));
  });

  test('damaged pages are copied, warned of and reported', async (t) => {
    const { cluster, directory } = await makeSandbox(t);
    const warning =
      'checksum verification failed in file "./base/1/112", block 0: calculated 1 but expected 2';
    const script = cluster.script(async (command, session) => {
      if (!FILES.test(command)) return false;
      const stream = copy(await tarMembers(cluster.members(pathsIn(command))));
      await session.write(
        stream,
        notice(warning),
        errorMessage('XX001', 'checksum verification failure during base backup'),
        READY,
      );
      return true;
    });
    const server = await ScriptedServer.listen(t, script);
    const run = runBackup(server, directory);
    const report = await run.outcome;
    assert.equal(report.hasBadPages, true);
    assert.deepEqual([...new Set(run.warnings)], [warning]);
    await assertComplete(cluster, directory);
  });

  test('a welcome of a version that is too old is refused by its number', async (t) => {
    const sandbox = await makeSandbox(t);
    const server = await ScriptedServer.listen(t, {
      ...sandbox.cluster.script(),
      startup: (session) => session.write(welcome({ server_version: '12.22' })),
    });
    const error = await failureOf(runBackup(server, sandbox.directory).outcome);
    assert.equal(error.code, 'server_unsupported');
    assert.match(error.message, /12\.22/);
  });
});
