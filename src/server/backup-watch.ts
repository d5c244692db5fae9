/*
 * Looks after a backup that runs on the server, until backup-slot.ts has ended it: tells the client again and again that
 * its session is alive, whatever it waits for, and finds out within seconds what makes going on senseless. The parameters
 * that it sends are in replication/session-parameters.ts.
 */
import { readdir } from 'node:fs/promises';
import path from 'node:path';
import { asConvoyError, ConvoyError, fileError } from '../errors.js';
import { timelineOfWalFile } from '../pgdata/wal-names.js';
import { ALIVE_PARAMETER, REMOVED_WAL_PARAMETER } from '../replication/session-parameters.js';
import { SessionWatch } from '../session-watch.js';
import { parameterStatus } from '../wire/backend-messages.js';
import type { CommandEnvironment } from './command-context.js';
import { bareMessage } from './server-access.js';

const SIGN_INTERVAL_MS = 2000;
/** With the time between two questions: a loss is noticed within 10 s. */
const ANSWER_LIMIT_MS = 7500;

const WAL_DIRECTORY = 'pg_wal';

export interface BackupWatchOptions {
  readonly environment: Pick<CommandEnvironment, 'access' | 'cluster'>;
  /** Sends a whole message to the client, between two others. */
  readonly send: (message: Uint8Array) => void;
  /** Called once, with the reason for the client. */
  readonly onLost: (reason: ConvoyError) => void;
}

interface Sight {
  readonly isInRecovery: boolean;
  readonly highestTimeline: number;
}

export class BackupWatch {
  /** The first WAL segment of the backup, once it is known. */
  firstSegment: string | undefined;
  readonly #options: BackupWatchOptions;
  readonly #questions: SessionWatch;
  readonly #signs: NodeJS.Timeout;
  #first: Sight | undefined;
  #hasToldOfWal = false;

  /** Begins at once. */
  constructor(options: BackupWatchOptions) {
    this.#options = options;
    this.#signs = setInterval(() => options.send(parameterStatus(ALIVE_PARAMETER, 'on')), SIGN_INTERVAL_MS);
    this.#questions = new SessionWatch({
      server: 'the server',
      answerLimitMs: ANSWER_LIMIT_MS,
      ask: () => this.#ask(),
    });
    void this.#questions.failed.then((reason) => options.onLost(reason));
    this.#questions.begin();
  }

  end(): void {
    clearInterval(this.#signs);
    this.#questions.stop();
  }

  async #ask(): Promise<ConvoyError | undefined> {
    const { cluster } = this.#options.environment;
    const names = await readdir(path.join(cluster.dataDirectory, WAL_DIRECTORY)).catch((error: unknown) => {
      throw fileError('open directory', WAL_DIRECTORY, error);
    });
    const highestTimeline = names.reduce((most, name) => Math.max(most, timelineOfWalFile(name) ?? 0), 0);
    const sight = { isInRecovery: await this.#isInRecovery(), highestTimeline };
    this.#tellOfWal(names);
    this.#first ??= sight;
    return whyLost(this.#first, sight);
  }

  /** The client decides whether it needs the WAL. */
  #tellOfWal(names: readonly string[]): void {
    const segment = this.firstSegment;
    if (segment === undefined || this.#hasToldOfWal || names.includes(segment)) return;
    this.#hasToldOfWal = true;
    this.#options.send(parameterStatus(REMOVED_WAL_PARAMETER, segment));
  }

  /** On the connection that all sessions share: the backup's own may wait for the checkpoint, or for the archive. */
  async #isInRecovery(): Promise<boolean> {
    const { access } = this.#options.environment;
    const ask = () => access.query('SELECT pg_is_in_recovery()::text');
    const [row] = await ask().catch((error: unknown) => {
      // it is opened again where somebody has ended it
      if (asConvoyError(error, 'connection_lost').code !== 'connection_lost') throw error;
      return ask();
    });
    return row?.[0] === 'true';
  }
}

function whyLost(first: Sight, now: Sight): ConvoyError | undefined {
  if (now.isInRecovery !== first.isInRecovery) {
    // the words of do_pg_backup_stop
    return new ConvoyError('serve_refused', 'the standby was promoted during online backup', {
      hint: 'try again: the copy cannot be used',
      sqlState: '55000',
    });
  }
  if (now.highestTimeline === first.highestTimeline) return undefined;
  return new ConvoyError('serve_refused', 'the server switched to another timeline during the backup', {
    hint: 'try again: the standby follows another primary now',
    sqlState: '55000',
  });
}

/** SQLSTATE: nobody here has ended the session, as with admin_shutdown. */
const CONNECTION_FAILURE = '08006';

/** What ends a backup, as its client is told. */
export function backupLost(reason: ConvoyError): ConvoyError {
  if (reason.code === 'serve_refused') return reason;
  const message = `terminating connection because the backup is lost: ${bareMessage(reason)}`;
  return new ConvoyError('serve_refused', message, { cause: reason, sqlState: CONNECTION_FAILURE });
}
