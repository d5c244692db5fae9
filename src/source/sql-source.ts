/*
 * The coordinator's side of a stock server, read over plain SQL with nothing installed there. The session that started
 * the backup stays open to its end: if it ends, the backup is gone, so it is watched (session-watch.ts).
 * Facts: PostgreSQL's documentation, "Making a Base Backup Using the Low Level API", and basebackup.c for the order.
 */
import { asConvoyError, ConvoyError } from '../errors.js';
import { CONTROL_FILE_BYTES } from '../limits.js';
import { parseLsn, type Lsn } from '../lsn.js';
import { CONTROL_FILE_PATH, parseControlFile, type ControlFile } from '../pgdata/control-file.js';
import { segmentNumberOf, walSegmentName } from '../pgdata/wal-names.js';
import { majorVersionOf } from '../server-version.js';
import type { ServerConnection } from '../wire/connection.js';
import type { OpenOptions } from '../wire/open-options.js';
import type { ConnectionSettings } from '../wire/conninfo.js';
import { checkBackupLabel } from './checked-label.js';
import { failUnlessMet } from './requirement.js';
import { SessionWatch } from '../session-watch.js';
import { identifyOverSql, type ServerIdentity } from './server-identity.js';
import type {
  BackupSource,
  FileList,
  SourceServer,
  StartedBackup,
  StartOptions,
  StopOptions,
  StoppedBackup,
  StopReceiver,
} from './source.js';
import { listCluster, readTablespaces, type ClusterTablespaces } from './sql-listing.js';
import { checkRequirements, type RequirementOptions } from './sql-requirements.js';
import { openSqlSession, readControlBytes } from './sql-session.js';
import { CURRENT_TIMELINE, holdWal, SERVER_FACTS, startStatement, stopStatement } from './sql-statements.js';
import { sendWal, walGone } from './sql-wal.js';

/** With the time between two questions: a loss is noticed within 10 s. */
const ANSWER_LIMIT_MS = 7500;

/** SQLSTATEs that say that no slot can be had: no right to, none left, or WAL is not kept for replication. */
const NO_SLOT_STATES: ReadonlySet<string> = new Set(['42501', '53400', '55000']);

export class SqlSource implements BackupSource {
  readonly server: SourceServer;
  readonly readsRanges = true;
  readonly dataChecksums: boolean;
  readonly identity: ServerIdentity;
  readonly lost: Promise<ConvoyError>;
  readonly #connection: ServerConnection;
  readonly #watch: SessionWatch;
  readonly #control: ControlFile;
  readonly #statsTempDirectory: string | undefined;
  #wasInRecovery: string | undefined;
  /** The first segment that the backup needs, where WAL is to be fetched. */
  #neededSegment: string | undefined;
  #tablespaces: ClusterTablespaces = { linked: [], inPlace: new Set() };
  #started: StartedBackup | undefined;

  /** @throws ConvoyError `connection_failed`, `server_unsupported`; `server_error` where a function may not be executed */
  static async open(
    settings: ConnectionSettings,
    options: Pick<OpenOptions, 'applicationName' | 'askPassword' | 'signal'> & RequirementOptions,
    onNotice: (message: string, severity: string) => void,
  ): Promise<SqlSource> {
    const connection = await openSqlSession(settings, {
      ...options,
      onNotice: ({ message, severity }) => onNotice(message, severity),
    });
    try {
      const version = connection.parameters.get('server_version') ?? '';
      failUnlessMet(await checkRequirements(connection, options));
      const facts = (await connection.query(SERVER_FACTS))[0] ?? [];
      const control = parseControlFile(await readControlBytes(connection));
      return new SqlSource(connection, version, facts, control, await identifyOverSql(connection));
    } catch (error) {
      connection.destroy();
      throw error;
    }
  }

  private constructor(
    connection: ServerConnection,
    version: string,
    facts: readonly (string | null)[],
    control: ControlFile,
    identity: ServerIdentity,
  ) {
    const [segmentBytes, directoryMode, checksums, statsTempDirectory] = facts;
    this.#connection = connection;
    this.identity = identity;
    this.#watch = new SessionWatch({
      server: connection.server,
      answerLimitMs: ANSWER_LIMIT_MS,
      ask: () => this.#askForLoss(),
    });
    this.#control = control;
    this.dataChecksums = checksums === 'on';
    this.#statsTempDirectory = statsTempDirectory ?? undefined;
    this.lost = Promise.race([connection.lost, this.#watch.failed]);
    this.server = {
      version,
      major: majorVersionOf(version),
      systemIdentifier: control.systemIdentifier,
      walSegmentBytes: Number(segmentBytes),
      directoryMode: Number.parseInt(directoryMode ?? '0700', 8),
    };
  }

  /** For the workers' connections. */
  get reached(): ConnectionSettings {
    return this.#connection.reached;
  }

  async start({ label, fastCheckpoint, includeWal }: StartOptions): Promise<StartedBackup> {
    // a slot holds it, where one can be had; that the WAL is there is watched in any case: slots can be invalidated
    if (includeWal) await this.#holdWal();
    const [recovery] = await this.#connection.query('SELECT pg_catalog.pg_is_in_recovery()');
    this.#wasInRecovery = recovery?.[0] ?? undefined;
    const [row] = await this.#connection.query(startStatement(this.server.major), [label, fastCheckpoint]);
    const startLsn = lsnOf(row?.[0]);
    const { timeline } = parseControlFile(await readControlBytes(this.#connection));
    this.#tablespaces = await readTablespaces(this.#connection);
    const segment = { timeline, segmentNumber: segmentNumberOf(startLsn, this.server.walSegmentBytes) };
    if (includeWal) this.#neededSegment = walSegmentName(segment, this.server.walSegmentBytes);
    this.#started = { startLsn, startTimeline: timeline, tablespaces: this.#tablespaces.linked };
    return this.#started;
  }

  async list(): Promise<FileList> {
    this.#requireStart();
    const { files, directories } = await listCluster(this.#connection, {
      major: this.server.major,
      catalogVersion: this.#control.catalogVersion,
      tablespaces: this.#tablespaces,
      statsTempDirectory: this.#statsTempDirectory,
    });
    this.#watch.begin();
    return { files, directories: directories.map((target) => ({ target, mode: this.server.directoryMode })) };
  }

  async stop({ includeWal, waitForArchive }: StopOptions, receiver: StopReceiver): Promise<StoppedBackup> {
    const { startLsn, startTimeline } = this.#requireStart();
    await this.#watch.end();
    await this.#sendControlFile(receiver);
    const [row] = await this.#connection.query(stopStatement(this.server.major), [waitForArchive]);
    const stopLsn = lsnOf(row?.[0]);
    const backupLabel = row?.[1] ?? '';
    checkBackupLabel(backupLabel, { lsn: startLsn, timeline: startTimeline });
    if (includeWal) {
      await sendWal(
        this.#connection,
        { startLsn, stopLsn, timeline: startTimeline, server: this.server, fileMode: this.fileMode },
        receiver,
      );
    }
    const [[timeline = null] = []] = await this.#connection.query(CURRENT_TIMELINE);
    return { stopLsn, stopTimeline: Number(timeline), backupLabel };
  }

  async close(): Promise<void> {
    await this.#watch.end();
    await this.#connection.close();
  }

  destroy(): void {
    this.#watch.stop();
    this.#connection.abandon();
  }

  /** Permission bits of the cluster's files. */
  get fileMode(): number {
    return this.server.directoryMode & 0o666;
  }

  /** A slot that goes with the session keeps the server from recycling WAL, where one can be had. */
  async #holdWal(): Promise<void> {
    try {
      await this.#connection.query(holdWal(this.#connection.processId));
    } catch (error) {
      if (!NO_SLOT_STATES.has(asConvoyError(error, 'server_error').sqlState ?? '')) throw error;
    }
  }

  /** A sign of life, and whether the WAL is still there and the standby still one. */
  async #askForLoss(): Promise<ConvoyError | undefined> {
    const segment = this.#neededSegment;
    const [row] = await this.#connection.query(
      `SELECT $1::text IS NULL OR (pg_catalog.pg_stat_file($1, true)).size IS NOT NULL,
         pg_catalog.pg_is_in_recovery()`,
      [segment === undefined ? null : `pg_wal/${segment}`],
    );
    const [hasWal, isInRecovery] = row ?? [];
    if (hasWal === 'f') return walGone(segment ?? '');
    if (isInRecovery === this.#wasInRecovery) return undefined;
    return new ConvoyError('server_error', 'the standby was promoted during online backup', {
      hint: 'try again: the copy cannot be used',
    });
  }

  async #sendControlFile(receiver: StopReceiver): Promise<void> {
    const bytes = await readControlBytes(this.#connection);
    const mtime = Math.floor(Date.now() / 1000);
    receiver.begin({ path: CONTROL_FILE_PATH, size: CONTROL_FILE_BYTES, mode: this.fileMode, mtime });
    await receiver.data(bytes);
    receiver.end();
  }

  #requireStart(): StartedBackup {
    if (this.#started === undefined) throw new TypeError('list and stop come after start');
    return this.#started;
  }
}

function lsnOf(text: string | null | undefined): Lsn {
  const lsn = parseLsn(text ?? '');
  if (lsn === undefined)
    throw new ConvoyError('untrusted_peer', `unexpected WAL position "${String(text).slice(0, 40)}"`);
  return lsn;
}
