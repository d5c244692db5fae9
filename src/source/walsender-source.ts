/*
 * The coordinator's side of a server that speaks the parallel backup commands: `pgconvoy serve`, or a PostgreSQL
 * with the patch. Order of commands, and what a client must keep to: PROTOCOL, "Rules a client must keep".
 * Nothing that the server names is believed before it is checked (file-list-reader.ts, stop-members.ts).
 */
import { explainSlotLoss } from '../slot-loss.js';
import { ConvoyError } from '../errors.js';
import { MAX_WAL_SEGMENT_BYTES, MIN_WAL_SEGMENT_BYTES } from '../limits.js';
import type { Lsn } from '../lsn.js';
import { formatReplicationCommand } from '../replication/command.js';
import { decodeLabel, decodePosition, decodeTablespace } from '../replication/result-sets.js';
import { REMOVED_WAL_PARAMETER, SYSTEM_IDENTIFIER_PARAMETER } from '../replication/session-parameters.js';
import { majorVersionOf } from '../server-version.js';
import type { ResultSet } from '../wire/command-run.js';
import { ServerConnection } from '../wire/connection.js';
import type { OpenOptions } from '../wire/open-options.js';
import type { ConnectionSettings } from '../wire/conninfo.js';
import { TarMemberReader } from '../tar/tar-members.js';
import { checkBackupLabel } from './checked-label.js';
import { FileListReader } from './file-list-reader.js';
import { checkHeader } from './listed-tablespaces.js';
import type {
  BackupSource,
  FileList,
  FileToRead,
  SourceDirectory,
  SourceServer,
  SourceTablespace,
  StartedBackup,
  StartOptions,
  StopOptions,
  StoppedBackup,
  StopReceiver,
} from './source.js';
import { SessionWatch } from '../session-watch.js';
import { identifyWalsender, type ServerIdentity } from './server-identity.js';
import { StopMembers } from './stop-members.js';
import { walGone } from './wal-gone.js';
import { WalsenderReader } from './walsender-reader.js';
import { holdWalOfSession } from './walsender-slot.js';

/** Directories that one command asks for, to learn their modes. */
const DIRECTORIES_PER_COMMAND = 1000;
/** With the time between two questions: a loss is noticed within 10 s. */
const ANSWER_LIMIT_MS = 7500;
/** `serve` gives a sign of life every two seconds; with the time between two looks, a loss is noticed within 10 s. */
const SILENCE_LIMIT_MS = 7500;
/** Without a list the command does nothing; a stock server does not know it. */
const NO_OPERATION = 'SEND_BACKUP_FILES';

export class WalsenderSource implements BackupSource {
  readonly server: SourceServer;
  readonly readsRanges = false;
  readonly identity: ServerIdentity;
  readonly lost: Promise<ConvoyError>;
  readonly #connection: ServerConnection;
  readonly #watch: SessionWatch;
  #started: { readonly startLsn: Lsn; readonly backupLabel: string } | undefined;
  #tablespaces: readonly SourceTablespace[] = [];
  #needsWal = false;
  #holdsWal = false;
  #wasInRecovery: string | undefined;
  #endSilenceLimit: () => void = () => {};

  /**
   * @param onNotice takes what the server says beside its answers, with its severity ("WARNING", "NOTICE")
   * @throws ConvoyError `connection_failed`; `server_unsupported` where the server lacks the commands
   */
  static async open(
    settings: ConnectionSettings,
    options: Pick<OpenOptions, 'applicationName' | 'askPassword' | 'signal'>,
    onNotice: (message: string, severity: string) => void,
  ): Promise<WalsenderSource> {
    const connection = await ServerConnection.open(settings, {
      ...options,
      replication: true,
      onNotice: ({ message, severity }) => onNotice(message, severity),
    });
    try {
      await probeCommands(connection);
      return new WalsenderSource(connection, await identify(connection), await identifyWalsender(connection));
    } catch (error) {
      connection.destroy();
      throw error;
    }
  }

  private constructor(connection: ServerConnection, server: SourceServer, identity: ServerIdentity) {
    this.#connection = connection;
    this.identity = identity;
    this.server = server;
    this.#watch = new SessionWatch({
      server: connection.server,
      answerLimitMs: ANSWER_LIMIT_MS,
      ask: () => this.#askForLoss(),
    });
    this.lost = Promise.race([connection.lost, this.#watch.failed]).then((reason) =>
      this.#holdsWal ? explainSlotLoss(reason) : reason,
    );
  }

  /** For the workers' connections. */
  get reached(): ConnectionSettings {
    return this.#connection.reached;
  }

  async start({ label, fastCheckpoint, includeWal }: StartOptions): Promise<StartedBackup> {
    this.#needsWal = includeWal;
    this.#wasInRecovery = this.#connection.parameters.get('in_hot_standby');
    if (includeWal) this.#holdsWal = await holdWalOfSession(this.#connection);
    if (this.#isServe) this.#endSilenceLimit = this.#connection.limitSilence(SILENCE_LIMIT_MS);
    const command = formatReplicationCommand({
      kind: 'start_backup',
      label,
      fast: fastCheckpoint,
      progress: false,
      tablespaceMap: false,
    });
    const [position, tablespaces, labels] = await this.#connection.run(command);
    const start = decodePosition(onlyRow(position));
    this.#tablespaces = checkHeader((tablespaces?.rows ?? []).map(decodeTablespace));
    const backupLabel = decodeLabel(onlyRow(labels)).label;
    const { backupFrom } = checkBackupLabel(backupLabel, start);
    const fromStandby = backupFrom === 'standby';
    this.#started = { startLsn: start.lsn, backupLabel };
    const { lsn: startLsn, timeline: startTimeline } = start;
    return { startLsn, startTimeline, fromStandby, tablespaces: this.#tablespaces };
  }

  async list(): Promise<FileList> {
    const reader = new FileListReader(this.#tablespaces, this.server.major);
    await this.#connection.run(formatReplicationCommand({ kind: 'send_backup_filelist' }), {
      row: (setIndex, row) => reader.add(setIndex, row),
    });
    const { files, directories } = reader.finish();
    const list = { files, directories: await this.#readDirectories(directories) };
    this.#watch.begin();
    return list;
  }

  async stop(options: StopOptions, receiver: StopReceiver): Promise<StoppedBackup> {
    const { startLsn, backupLabel } = this.#requireStart();
    await this.#watch.end();
    const members = new StopMembers(receiver, {
      includeWal: options.includeWal,
      segmentBytes: this.server.walSegmentBytes,
      startLsn,
    });
    const tar = new TarMemberReader(members);
    const command = formatReplicationCommand({
      kind: 'stop_backup',
      label: backupLabel,
      wal: options.includeWal,
      noWait: !options.waitForArchive,
    });
    const [position] = await this.#connection.run(command, { copy: (piece) => tar.push(piece) });
    tar.finish();
    const stop = decodePosition(onlyRow(position));
    this.#endSilenceLimit();
    members.finish(stop.lsn);
    return { stopLsn: stop.lsn, stopTimeline: stop.timeline, backupLabel };
  }

  async close(): Promise<void> {
    await this.#watch.end();
    await this.#connection.close();
  }

  destroy(): void {
    this.#watch.stop();
    this.#endSilenceLimit();
    this.#connection.abandon();
  }

  /** `pgconvoy serve`, which says more of itself than a server with the patch. */
  get #isServe(): boolean {
    return this.#connection.parameters.has(SYSTEM_IDENTIFIER_PARAMETER);
  }

  /**
   * A sign of life. What `serve` finds out it says by itself, or ends the session; a server with the patch is asked for its
   * timeline, and reports a promotion with its answer.
   */
  async #askForLoss(): Promise<ConvoyError | undefined> {
    const { parameters } = this.#connection;
    if (this.#isServe) {
      await this.#connection.run(NO_OPERATION);
      const removed = parameters.get(REMOVED_WAL_PARAMETER);
      return this.#needsWal && removed !== undefined ? walGone(removed, 'no slot') : undefined;
    }
    const { timeline } = await identifyWalsender(this.#connection);
    if (parameters.get('in_hot_standby') !== this.#wasInRecovery) {
      return new ConvoyError('server_error', 'the standby was promoted during online backup');
    }
    if (timeline === this.identity.timeline) return undefined;
    return new ConvoyError('server_error', 'the server switched to another timeline during the backup');
  }

  /** The list has no modes and owners; the members that SEND_BACKUP_FILES makes of directories have. */
  async #readDirectories(directories: readonly FileToRead[]): Promise<SourceDirectory[]> {
    const reader = new WalsenderReader(this.#connection);
    const found: SourceDirectory[] = [];
    for (let at = 0; at < directories.length; at += DIRECTORIES_PER_COMMAND) {
      const batch = directories.slice(at, at + DIRECTORIES_PER_COMMAND);
      // one tablespace a command: PROTOCOL rule 2
      for (const group of groupByRoot(batch)) {
        found.push(...(await reader.readDirectories(group, this.#requireStart().startLsn)));
      }
    }
    return found;
  }

  #requireStart(): { readonly startLsn: Lsn; readonly backupLabel: string } {
    if (this.#started === undefined) throw new TypeError('list and stop come after start');
    return this.#started;
  }
}

async function probeCommands(connection: ServerConnection): Promise<void> {
  try {
    await connection.run(NO_OPERATION);
  } catch (error) {
    if (!(error instanceof ConvoyError) || error.code !== 'server_error') throw error;
    throw new ConvoyError(
      'server_unsupported',
      `${connection.server} does not know the parallel backup commands`,
      { hint: 'place "pgconvoy serve" beside the server and connect to it', cause: error },
    );
  }
}

async function identify(connection: ServerConnection): Promise<SourceServer> {
  const version = connection.parameters.get('server_version') ?? '';
  const major = majorVersionOf(version);
  const [system] = await connection.run('IDENTIFY_SYSTEM');
  const systemIdentifier = onlyRow(system)[0] ?? '';
  if (!/^\d{1,20}$/.test(systemIdentifier)) throw badAnswer('IDENTIFY_SYSTEM', systemIdentifier);
  return {
    version,
    major,
    systemIdentifier: BigInt(systemIdentifier),
    walSegmentBytes: sizeSetting('wal_segment_size', await show(connection, 'wal_segment_size')),
    directoryMode: modeSetting(await show(connection, 'data_directory_mode')),
  };
}

async function show(connection: ServerConnection, name: string): Promise<string> {
  const [set] = await connection.run(`SHOW ${name}`);
  return onlyRow(set)[0] ?? '';
}

function sizeSetting(name: string, text: string): number {
  const match = /^(\d{1,4})(MB|GB)$/.exec(text);
  const bytes = Number(match?.[1]) * (match?.[2] === 'GB' ? 1024 : 1) * 1024 * 1024;
  const isPowerOfTwo = Number.isInteger(Math.log2(bytes));
  if (!isPowerOfTwo || bytes < MIN_WAL_SEGMENT_BYTES || bytes > MAX_WAL_SEGMENT_BYTES)
    throw badAnswer(name, text);
  return bytes;
}

function modeSetting(text: string): number {
  if (!/^0?7[0-5]0$/.test(text)) throw badAnswer('data_directory_mode', text);
  return Number.parseInt(text, 8);
}

function onlyRow(set: ResultSet | undefined): (string | null)[] {
  const row = set?.rows[0];
  if (row === undefined || set?.rows.length !== 1) {
    throw new ConvoyError('untrusted_peer', 'the server answered with an unexpected number of rows');
  }
  return row;
}

function badAnswer(what: string, answer: string): ConvoyError {
  return new ConvoyError('untrusted_peer', `unexpected answer to ${what}: "${answer.slice(0, 40)}"`);
}

function* groupByRoot<Entry extends { readonly target: string }>(
  entries: readonly Entry[],
): Generator<Entry[]> {
  const rootOf = (entry: Entry): string => /^pg_tblspc\/\d+\/PG_/.exec(entry.target)?.[0] ?? '';
  for (let from = 0; from < entries.length;) {
    const first = entries[from];
    let to = from;
    while (to < entries.length && rootOf(entries[to] as Entry) === rootOf(first as Entry)) to += 1;
    yield entries.slice(from, to);
    from = to;
  }
}
