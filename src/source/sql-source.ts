/*
 * The coordinator's side of a stock server, read over plain SQL with nothing installed there. The session that started
 * the backup stays open to its end: if it ends, the backup is gone, so it is watched from another one (sql-watch.ts).
 * Facts: PostgreSQL's documentation, "Making a Base Backup Using the Low Level API", and basebackup.c for the order.
 */
import { ConvoyError } from '../errors.js';
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
import { CURRENT_TIMELINE, SERVER_FACTS, startStatement, stopStatement } from './sql-statements.js';
import { sendWal } from './sql-wal.js';
import { SqlWatch } from './sql-watch.js';

export class SqlSource implements BackupSource {
  readonly server: SourceServer;
  readonly readsRanges = true;
  readonly dataChecksums: boolean;
  readonly identity: ServerIdentity;
  readonly lost: Promise<ConvoyError>;
  readonly #connection: ServerConnection;
  readonly #watch: SqlWatch;
  readonly #control: ControlFile;
  readonly #statsTempDirectory: string | undefined;
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
      failUnlessMet(await checkRequirements(connection, options));
      const facts = (await connection.query(SERVER_FACTS))[0] ?? [];
      const control = parseControlFile(await readControlBytes(connection));
      const identity = await identifyOverSql(connection);
      const watch = await SqlWatch.open(connection, identity, options);
      return new SqlSource(connection, watch, facts, control, identity);
    } catch (error) {
      connection.destroy();
      throw error;
    }
  }

  private constructor(
    connection: ServerConnection,
    watch: SqlWatch,
    facts: readonly (string | null)[],
    control: ControlFile,
    identity: ServerIdentity,
  ) {
    const [segmentBytes, directoryMode, checksums, statsTempDirectory] = facts;
    this.#connection = connection;
    this.identity = identity;
    this.#watch = watch;
    this.#control = control;
    this.dataChecksums = checksums === 'on';
    this.#statsTempDirectory = statsTempDirectory ?? undefined;
    this.lost = Promise.race([connection.lost, watch.failed]);
    const version = connection.parameters.get('server_version') ?? '';
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
    if (includeWal) await this.#watch.holdWal();
    this.#watch.begin();
    return await this.#watched(async () => {
      const [row] = await this.#connection.query(startStatement(this.server.major), [label, fastCheckpoint]);
      const startLsn = lsnOf(row?.[0]);
      const { timeline } = parseControlFile(await readControlBytes(this.#connection));
      this.#tablespaces = await readTablespaces(this.#connection);
      const segment = { timeline, segmentNumber: segmentNumberOf(startLsn, this.server.walSegmentBytes) };
      if (includeWal) this.#watch.neededSegment = walSegmentName(segment, this.server.walSegmentBytes);
      const [recovery] = await this.#connection.query('SELECT pg_catalog.pg_is_in_recovery()');
      const fromStandby = recovery?.[0] === 't';
      const { linked: tablespaces } = this.#tablespaces;
      this.#started = { startLsn, startTimeline: timeline, fromStandby, tablespaces };
      return this.#started;
    });
  }

  async list(): Promise<FileList> {
    this.#requireStart();
    const { files, directories } = await this.#watched(() =>
      listCluster(this.#connection, {
        major: this.server.major,
        catalogVersion: this.#control.catalogVersion,
        tablespaces: this.#tablespaces,
        statsTempDirectory: this.#statsTempDirectory,
      }),
    );
    return { files, directories: directories.map((target) => ({ target, mode: this.server.directoryMode })) };
  }

  async stop({ includeWal, waitForArchive }: StopOptions, receiver: StopReceiver): Promise<StoppedBackup> {
    const { startLsn, startTimeline } = this.#requireStart();
    return await this.#watched(async () => {
      await this.#sendControlFile(receiver);
      const [row] = await this.#connection.query(stopStatement(this.server.major), [waitForArchive]);
      this.#watch.isStopped = true;
      const stopLsn = lsnOf(row?.[0]);
      const backupLabel = row?.[1] ?? '';
      checkBackupLabel(backupLabel, { lsn: startLsn, timeline: startTimeline });
      if (includeWal) {
        const { server, fileMode } = this;
        const wal = { startLsn, stopLsn, timeline: startTimeline, server, fileMode };
        await sendWal(this.#connection, wal, receiver);
      }
      const [[timeline = null] = []] = await this.#connection.query(CURRENT_TIMELINE);
      return { stopLsn, stopTimeline: Number(timeline), backupLabel };
    });
  }

  async close(): Promise<void> {
    await this.#watch.end();
    await this.#connection.close();
  }

  destroy(): void {
    this.#connection.abandon();
    this.#watch.abandon();
  }

  /** Permission bits of the cluster's files. */
  get fileMode(): number {
    return this.server.directoryMode & 0o666;
  }

  /** While answers are awaited the session itself cannot be asked for a sign of life. */
  async #watched<T>(step: () => Promise<T>): Promise<T> {
    this.#watch.isAwaited = true;
    try {
      return await step();
    } finally {
      this.#watch.isAwaited = false;
    }
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
