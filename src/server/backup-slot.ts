/*
 * The backup that a session has running on the server: the SQL connection that is in backup mode, and what is known
 * since its start. Whatever ends the session ends the connection, and with it the server's backup mode.
 * Rules: do_pg_backup_start and do_pg_backup_stop in PostgreSQL's src/backend/access/transam/xlog.c.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { ConvoyError } from '../errors.js';
import { formatLsn, parseLsn, type Lsn } from '../lsn.js';
import { formatBackupLabel, type BackupLabel } from '../pgdata/backup-label.js';
import { readControlFile } from '../pgdata/control-file.js';
import { segmentNumberOf, walSegmentName } from '../pgdata/wal-names.js';
import type { Position } from '../replication/result-sets.js';
import type { ServerConnection } from '../wire/connection.js';
import type { Notice } from '../wire/open-options.js';
import { backupLost, BackupWatch } from './backup-watch.js';
import type { CommandEnvironment } from './command-context.js';
import { assertSameCluster } from './served-cluster.js';
import { listTablespaces, type ServedTablespace } from './tablespaces.js';

/** Between pg_backup_start and the reading of pg_control another checkpoint may end; hardly ever twice. */
const START_ATTEMPTS = 5;

/** How long the server may take to hear that a backend must end before its connection is cut all the same. */
const TERMINATE_LIMIT_MS = 2000;

export interface StartedBackup {
  readonly start: Position;
  /** Name of the WAL segment that holds it. */
  readonly startSegment: string;
  /** The whole text of backup_label. */
  readonly label: string;
  readonly tablespaces: readonly ServedTablespace[];
}

export interface StoppedBackup {
  readonly end: Position;
  /** The text of backup_label as the server gives it. */
  readonly label: string;
}

export class BackupSlot {
  readonly #environment: CommandEnvironment;
  readonly #send: (message: Uint8Array) => void;
  readonly #onLost: (reason: ConvoyError) => void;
  #connection: ServerConnection | undefined;
  #watch: BackupWatch | undefined;
  #started: StartedBackup | undefined;

  /**
   * @param send sends a message to the client, between two others
   * @param onLost called when the server ends the connection, and with it the backup, or when going on makes no sense
   */
  constructor(
    environment: CommandEnvironment,
    send: (message: Uint8Array) => void,
    onLost: (reason: ConvoyError) => void,
  ) {
    this.#environment = environment;
    this.#send = send;
    this.#onLost = onLost;
  }

  get started(): StartedBackup | undefined {
    return this.#started;
  }

  /**
   * Takes the server into backup mode; waits for the checkpoint.
   *
   * @throws ConvoyError 55000 where a backup is running already, the server's error, or the signal's reason
   */
  async start(label: string, fast: boolean, signal: AbortSignal): Promise<StartedBackup> {
    if (this.#connection !== undefined) {
      throw new ConvoyError('serve_refused', 'a backup is already in progress in this session', {
        sqlState: '55000',
      });
    }
    const connection = await this.#environment.access.openSql();
    this.#connection = connection;
    const lose = (reason: ConvoyError): void => {
      if (this.#connection === connection) this.#onLost(backupLost(reason));
    };
    const watch = new BackupWatch({ environment: this.#environment, send: this.#send, onLost: lose });
    this.#watch = watch;
    return this.#interruptibly(signal, async () => {
      await assertSameCluster(this.#environment.cluster, connection);
      const started = await this.#begin(connection, label, fast);
      this.#started = started;
      watch.firstSegment = started.startSegment;
      void connection.lost.then(lose);
      return started;
    });
  }

  /**
   * Takes the server out of backup mode; with `waitForArchive` once the last WAL segment is archived.
   *
   * @param onNotice called with what the server remarks meanwhile
   * @throws ConvoyError 55000 without a backup, the server's error, or the signal's reason; the backup is over then
   */
  async stop(
    waitForArchive: boolean,
    signal: AbortSignal,
    onNotice: (notice: Notice) => void,
  ): Promise<StoppedBackup> {
    const connection = this.#connection;
    const started = this.#started;
    if (connection === undefined || started === undefined) throw notInProgress();
    connection.onNotice = onNotice;
    const stopped = await this.#interruptibly(signal, () =>
      this.#finish(connection, started, waitForArchive),
    );
    this.#forget();
    void connection.close();
    return stopped;
  }

  /** Ends a backup that runs, whatever the server waits for; does nothing without one. */
  async abort(): Promise<void> {
    const connection = this.#connection;
    if (connection === undefined) return;
    const wasStarted = this.#started !== undefined;
    this.#forget();
    const { access, log } = this.#environment;
    // A backend that waits (for the checkpoint, for the archiver) would not see the end of its connection.
    const terminated = access.terminateBackend(connection.processId).catch(() => {});
    await Promise.race([terminated, delay(TERMINATE_LIMIT_MS, undefined, { ref: false })]);
    connection.destroy();
    log('LOG', wasStarted ? 'backup aborted, the server is out of backup mode' : 'start of a backup aborted');
  }

  #forget(): void {
    this.#connection = undefined;
    this.#started = undefined;
    this.#watch?.end();
    this.#watch = undefined;
  }

  async #begin(connection: ServerConnection, label: string, fast: boolean): Promise<StartedBackup> {
    const { dataDirectory, walSegmentBytes } = this.#environment.cluster;
    for (let attempt = 1; attempt <= START_ATTEMPTS; attempt += 1) {
      const startLsn = await this.#enterBackupMode(connection, label, fast);
      const control = await readControlFile(dataDirectory);
      if (control.redo === startLsn) {
        const { startTime, backupFrom } = await this.#describeStart(connection);
        const { timeline, checkPoint } = control;
        const segment = { timeline, segmentNumber: segmentNumberOf(startLsn, walSegmentBytes) };
        const startSegment = walSegmentName(segment, walSegmentBytes);
        return {
          start: { lsn: startLsn, timeline },
          startSegment,
          label: formatBackupLabel({
            startLsn,
            startSegment,
            checkPoint,
            backupFrom,
            startTime,
            label,
            startTimeline: timeline,
          }),
          tablespaces: await listTablespaces(dataDirectory),
        };
      }
      await this.#leaveBackupMode(connection, false);
    }
    throw new ConvoyError(
      'serve_refused',
      'could not start the backup: checkpoints follow each other too fast',
      {
        sqlState: '55000',
      },
    );
  }

  async #enterBackupMode(connection: ServerConnection, label: string, fast: boolean): Promise<Lsn> {
    const call =
      this.#environment.cluster.majorVersion >= 15
        ? 'pg_backup_start($1, $2)'
        : 'pg_start_backup($1, $2, false)';
    const [row] = await connection.query(`SELECT ${call}::text`, [label, fast]);
    return serverLsn(row?.[0]);
  }

  async #leaveBackupMode(
    connection: ServerConnection,
    waitForArchive: boolean,
  ): Promise<{ readonly lsn: Lsn; readonly label: string }> {
    const call =
      this.#environment.cluster.majorVersion >= 15 ? 'pg_backup_stop($1)' : 'pg_stop_backup(false, $1)';
    const [row] = await connection.query(`SELECT lsn::text, labelfile FROM ${call}`, [waitForArchive]);
    return { lsn: serverLsn(row?.[0]), label: row?.[1] ?? '' };
  }

  async #describeStart(connection: ServerConnection): Promise<Pick<BackupLabel, 'startTime' | 'backupFrom'>> {
    const [row] = await connection.query(START_FACTS);
    const primary = this.#environment.cluster.majorVersion >= 14 ? 'primary' : 'master';
    return { startTime: row?.[0] ?? '', backupFrom: row?.[1] === 'true' ? 'standby' : primary };
  }

  async #finish(
    connection: ServerConnection,
    started: StartedBackup,
    waitForArchive: boolean,
  ): Promise<StoppedBackup> {
    const { lsn, label } = await this.#leaveBackupMode(connection, waitForArchive);
    const [row] = await connection.query(STANDBY_TIMELINE);
    const timeline = row === undefined ? started.start.timeline : Number(row[0]);
    return { end: { lsn, timeline }, label };
  }

  /** Runs a step that ends the backup where it fails or the signal says so. */
  async #interruptibly<T>(signal: AbortSignal, step: () => Promise<T>): Promise<T> {
    const interrupted = new Promise<never>((_resolve, reject) => {
      const interrupt = (): void => reject(signal.reason as Error);
      if (signal.aborted) interrupt();
      else signal.addEventListener('abort', interrupt, { once: true });
    });
    try {
      return await Promise.race([interrupted, step()]);
    } catch (error) {
      await this.abort();
      throw error;
    }
  }
}

/** minRecoveryPointTLI is what do_pg_backup_stop reports on a standby; no row on a primary. */
const STANDBY_TIMELINE = `
  SELECT min_recovery_end_timeline::text FROM pg_control_recovery() WHERE pg_is_in_recovery()`;

const START_FACTS = `
  SELECT to_char(clock_timestamp(), 'YYYY-MM-DD HH24:MI:SS TZ'), pg_is_in_recovery()::text
  FROM set_config('TimeZone', current_setting('log_timezone'), false)`;

/** What the patch answers where nothing is to be stopped. */
export function notInProgress(): ConvoyError {
  const message = 'non-exclusive backup is not in progress';
  return new ConvoyError('serve_refused', message, {
    hint: 'did you mean to use START_BACKUP first?',
    sqlState: '55000',
  });
}

function serverLsn(text: string | null | undefined): Lsn {
  const lsn = parseLsn(text ?? '');
  if (lsn === undefined)
    throw new ConvoyError('untrusted_peer', `invalid WAL location "${text}" from the server`);
  return lsn;
}

/** For the log. */
export function describePosition({ lsn, timeline }: Position): string {
  return `${formatLsn(lsn)} on timeline ${timeline}`;
}
