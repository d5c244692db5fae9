/*
 * The coordinator's side of a stock server, read over plain SQL with nothing installed there. The session that started
 * the backup stays open to its end: if it ends, the backup is gone, so it is watched (session-watch.ts).
 * Facts: PostgreSQL's documentation, "Making a Base Backup Using the Low Level API", and basebackup.c for the order.
 */
import { asConvoyError, ConvoyError } from '../errors.js';
import { CONTROL_FILE_BYTES } from '../limits.js';
import { parseLsn, type Lsn } from '../lsn.js';
import { walDirectories } from '../pgdata/listed-path.js';
import { CONTROL_FILE_PATH, parseControlFile, type ControlFile } from '../pgdata/control-file.js';
import { segmentNumberOf, walSegmentName } from '../pgdata/wal-names.js';
import { majorVersionOf } from '../server-version.js';
import type { ServerConnection, OpenOptions } from '../wire/connection.js';
import type { ConnectionSettings } from '../wire/conninfo.js';
import { checkBackupLabel } from './checked-label.js';
import { checkTablespaces } from './listed-tablespaces.js';
import { SessionWatch } from './session-watch.js';
import type {
  BackupSource,
  FileList,
  SourceServer,
  SourceTablespace,
  StartedBackup,
  StartOptions,
  StopOptions,
  StoppedBackup,
  StopReceiver,
} from './source.js';
import { SqlListReader } from './sql-list.js';
import { checkRequirements, failUnlessMet, type RequirementOptions } from './sql-requirements.js';
import { openSqlSession, readControlBytes } from './sql-session.js';
import {
  holdWal,
  listStatement,
  SERVER_FACTS,
  startStatement,
  stopStatement,
  TABLESPACES,
} from './sql-statements.js';
import { sendWal, walGone } from './sql-wal.js';

/** SQLSTATEs that say that no slot can be had: no right to, none left, or WAL is not kept for replication. */
const NO_SLOT_STATES: ReadonlySet<string> = new Set(['42501', '53400', '55000']);

export class SqlSource implements BackupSource {
  readonly server: SourceServer;
  readonly readsRanges = true;
  readonly dataChecksums: boolean;
  readonly lost: Promise<ConvoyError>;
  readonly #connection: ServerConnection;
  readonly #watch: SessionWatch;
  readonly #control: ControlFile;
  readonly #statsTempDirectory: string | undefined;
  readonly #dataDirectory: string | undefined;
  /** The first segment that the backup needs, where no slot holds it. */
  #neededSegment: string | undefined;
  #started: StartedBackup | undefined;

  /** @throws ConvoyError `connection_failed`, `server_unsupported`; `server_error` where a function may not be executed */
  static async open(
    settings: ConnectionSettings,
    options: Pick<OpenOptions, 'applicationName' | 'askPassword' | 'signal'> & RequirementOptions,
    onWarning: (message: string) => void,
  ): Promise<SqlSource> {
    const connection = await openSqlSession(settings, {
      ...options,
      onNotice: ({ message }) => onWarning(message),
    });
    try {
      const version = connection.parameters.get('server_version') ?? '';
      failUnlessMet(await checkRequirements(connection, options));
      const facts = (await connection.query(SERVER_FACTS))[0] ?? [];
      return new SqlSource(connection, version, facts, parseControlFile(await readControlBytes(connection)));
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
  ) {
    const [segmentBytes, directoryMode, checksums, blockSize, statsTempDirectory, dataDirectory] = facts;
    if (blockSize !== '8192') {
      throw new ConvoyError(
        'server_unsupported',
        `the server's block size is ${blockSize ?? 'unknown'}, not 8192`,
      );
    }
    this.#connection = connection;
    this.#watch = new SessionWatch({ server: connection.server, ask: () => this.#askForWal() });
    this.#control = control;
    this.dataChecksums = checksums === 'on';
    this.#statsTempDirectory = statsTempDirectory ?? undefined;
    this.#dataDirectory = dataDirectory ?? undefined;
    this.lost = Promise.race([connection.lost, this.#watch.failed]);
    this.server = {
      version,
      major: majorVersionOf(version),
      systemIdentifier: control.systemIdentifier,
      walSegmentBytes: Number(segmentBytes),
      directoryMode: Number.parseInt(directoryMode ?? '0700', 8),
    };
  }

  /** The password that the server accepted, for the workers' connections. */
  get password(): string | undefined {
    return this.#connection.password;
  }

  async start({ label, fastCheckpoint, includeWal }: StartOptions): Promise<StartedBackup> {
    const holdsWal = includeWal && (await this.#holdWal());
    const [row] = await this.#connection.query(startStatement(this.server.major), [label, fastCheckpoint]);
    const startLsn = lsnOf(row?.[0]);
    const { timeline } = parseControlFile(await readControlBytes(this.#connection));
    const rows = await this.#connection.query(TABLESPACES);
    const tablespaces = checkTablespaces(
      // one in place is a directory of the data directory
      rows.filter(([, location]) => location?.startsWith('/') === true).map(tablespaceOf),
    );
    const segment = { timeline, segmentNumber: segmentNumberOf(startLsn, this.server.walSegmentBytes) };
    if (includeWal && !holdsWal) this.#neededSegment = walSegmentName(segment, this.server.walSegmentBytes);
    this.#started = { startLsn, startTimeline: timeline, tablespaces };
    return this.#started;
  }

  async list(): Promise<FileList> {
    const { tablespaces } = this.#requireStart();
    const { major, directoryMode } = this.server;
    const reader = new SqlListReader({
      walDirectories: walDirectories(major),
      linkedTablespaces: new Set(tablespaces.map(({ oid }) => oid)),
      insideDirectories: this.#insideDirectories(tablespaces),
      statsTempDirectory: this.#statsTempDirectory,
    });
    const statement = listStatement(`PG_${major}_${this.#control.catalogVersion}`);
    await this.#connection.run(statement, { row: (_set, row) => reader.add(row) });
    this.#watch.begin();
    const { files, directories } = reader.finish();
    return { files, directories: directories.map((target) => ({ target, mode: directoryMode })) };
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
        { startLsn, stopLsn, server: this.server, fileMode: this.fileMode },
        receiver,
      );
    }
    const { timeline } = parseControlFile(await readControlBytes(this.#connection));
    return { stopLsn, stopTimeline: timeline, backupLabel };
  }

  async close(): Promise<void> {
    await this.#watch.end();
    await this.#connection.close();
  }

  destroy(): void {
    this.#watch.stop();
    this.#connection.destroy();
  }

  /** Permission bits of the cluster's files. */
  get fileMode(): number {
    return this.server.directoryMode & 0o666;
  }

  /** A slot that goes with the session keeps the server from recycling WAL. @returns false where none can be had */
  async #holdWal(): Promise<boolean> {
    try {
      await this.#connection.query(holdWal(this.#connection.processId));
      return true;
    } catch (error) {
      const { sqlState = '' } = asConvoyError(error, 'server_error');
      if (NO_SLOT_STATES.has(sqlState)) return false;
      throw error;
    }
  }

  /** A sign of life, and whether the WAL is still there that nothing holds. */
  async #askForWal(): Promise<ConvoyError | undefined> {
    const segment = this.#neededSegment;
    const [row] = await this.#connection.query(
      'SELECT $1::text IS NULL OR (pg_catalog.pg_stat_file($1, true)).size IS NOT NULL',
      [segment === undefined ? null : `pg_wal/${segment}`],
    );
    return row?.[0] === 'f' ? walGone(segment ?? '') : undefined;
  }

  async #sendControlFile(receiver: StopReceiver): Promise<void> {
    const bytes = await readControlBytes(this.#connection);
    const mtime = Math.floor(Date.now() / 1000);
    receiver.begin({ path: CONTROL_FILE_PATH, size: CONTROL_FILE_BYTES, mode: this.fileMode, mtime });
    await receiver.data(bytes);
    receiver.end();
  }

  /** Tablespaces that lie inside the data directory are listed there, too. */
  #insideDirectories(tablespaces: readonly SourceTablespace[]): string[] {
    const root = this.#dataDirectory;
    if (root === undefined) return [];
    return tablespaces.flatMap(({ location }) =>
      location.startsWith(`${root}/`) ? [location.slice(root.length + 1)] : [],
    );
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

function tablespaceOf([oid, location]: (string | null)[]): SourceTablespace {
  return { oid: Number(oid), location: location ?? '' };
}
