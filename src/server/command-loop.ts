/*
 * The commands of a client that has logged in, one after the other: pgconvoy's own are run here, the others relayed.
 * Run by session.ts.
 * Rules: PostgresMain, SocketBackend and forbidden_in_wal_sender in PostgreSQL's src/backend/tcop/postgres.c.
 */
import { assertNever } from '../assert-never.js';
import { asConvoyError, ConvoyError } from '../errors.js';
import { parseReplicationCommand, type ParallelCommand } from '../replication/command.js';
import { errorResponse, readyForQuery } from '../wire/backend-messages.js';
import { decodeQuery } from '../wire/frontend-messages.js';
import { BackupSlot } from './backup-slot.js';
import type { ClientChannel, ClientMessage } from './client-channel.js';
import type { CommandContext, CommandEnvironment } from './command-context.js';
import { errorFields } from './error-fields.js';
import type { LoggedInClient } from './login.js';
import { Relay } from './relay.js';
import { sendBackupFilelist } from './send-backup-filelist.js';
import { sendBackupFiles } from './send-backup-files.js';
import { printable } from './server-log.js';
import { startBackup } from './start-backup.js';
import { stopBackup } from './stop-backup.js';

const TERMINATE = 'X';
const SYNC = 'S';
const EXTENDED_QUERY: ReadonlySet<string> = new Set(['P', 'B', 'E', 'D', 'C']);
/** Flush, and what is left of a COPY that failed. */
const IGNORED: ReadonlySet<string> = new Set(['H', 'd', 'c', 'f']);

export class CommandLoop {
  readonly #channel: ClientChannel;
  readonly #environment: CommandEnvironment;
  readonly #relay: Relay;
  readonly #backup: BackupSlot;
  /** Aborted when the session ends. */
  readonly #ended = new AbortController();
  /** Aborted by a CancelRequest for the command that runs. */
  #cancelled: AbortController | undefined;

  /** @param ended aborted when the session has to end, with the reason for the client */
  constructor(
    { channel, role, startup }: LoggedInClient,
    environment: CommandEnvironment,
    ended: AbortSignal,
  ) {
    this.#channel = channel;
    this.#environment = environment;
    const end = (reason: unknown): void => this.#end(asConvoyError(reason, 'cancelled'));
    const identity = { role: role.name, applicationName: startup.applicationName };
    this.#relay = new Relay(channel, environment.access, identity, end);
    this.#backup = new BackupSlot(environment, (message) => channel.send(message), end);
    for (const signal of [ended, channel.gone]) {
      signal.addEventListener('abort', () => end(signal.reason), { once: true });
      if (signal.aborted) end(signal.reason);
    }
  }

  /** Runs until the session is over; resolves with the reason, undefined where the client took its leave. */
  async run(): Promise<ConvoyError | undefined> {
    try {
      while (await this.#runNext());
      return undefined;
    } catch (thrown) {
      return asConvoyError(thrown, 'connection_lost');
    } finally {
      this.#relay.close();
      await this.#backup.abort();
    }
  }

  /** Stops the command that runs, if any; it answers with an error and the session goes on. */
  cancel(): void {
    const message = 'canceling statement due to user request';
    this.#cancelled?.abort(new ConvoyError('cancelled', message, { sqlState: '57014' }));
  }

  #end(reason: ConvoyError): void {
    if (this.#ended.signal.aborted) return;
    this.#ended.abort(reason);
    this.#relay.close();
    // at once: the server must not stay in backup mode until a command has noticed
    void this.#backup.abort();
  }

  /** @throws ConvoyError that ends the session */
  async #runNext(): Promise<boolean> {
    const channel = this.#channel;
    const { type, frame } = await channel.receive(this.#ended.signal);
    const letter = String.fromCodePoint(type);
    if (letter === TERMINATE) return false;
    if (letter === 'Q') {
      await this.#runQuery(frame);
    } else if (letter === SYNC) {
      channel.send(readyForQuery());
    } else if (EXTENDED_QUERY.has(letter)) {
      this.#refuse('extended query protocol not supported in a replication connection');
      await this.#skipUntilSync();
    } else if (letter === 'F') {
      this.#refuse('fastpath function calls not supported in a replication connection');
      channel.send(readyForQuery());
    } else if (!IGNORED.has(letter)) {
      throw new ConvoyError('untrusted_peer', `invalid frontend message type ${type}`, { sqlState: '08P01' });
    }
    return true;
  }

  async #runQuery(frame: Buffer): Promise<void> {
    const cancelled = new AbortController();
    this.#cancelled = cancelled;
    try {
      const command = parseReplicationCommand(decodeQuery(frame));
      if (command.kind === 'other') {
        await this.#relay.run(frame, cancelled.signal);
        return;
      }
      await this.#runParallelCommand(command, cancelled.signal);
    } catch (thrown) {
      this.#ended.signal.throwIfAborted();
      const error = asConvoyError(thrown, 'serve_refused');
      this.#environment.log('ERROR', printable(error.message));
      this.#channel.send(errorResponse(errorFields(error, 'ERROR')));
    } finally {
      this.#cancelled = undefined;
    }
    this.#channel.send(readyForQuery());
  }

  #runParallelCommand(command: ParallelCommand, cancelled: AbortSignal): Promise<void> {
    const signal = AbortSignal.any([this.#ended.signal, cancelled]);
    const context: CommandContext = {
      ...this.#environment,
      channel: this.#channel,
      backup: this.#backup,
      signal,
    };
    switch (command.kind) {
      case 'start_backup':
        return startBackup(command, context);
      case 'send_backup_filelist':
        return sendBackupFilelist(context);
      case 'send_backup_files':
        return sendBackupFiles(command, context);
      case 'stop_backup':
        return stopBackup(command, context);
      default:
        return assertNever(command);
    }
  }

  #refuse(message: string): void {
    this.#channel.send(errorResponse({ severity: 'ERROR', sqlState: '08P01', message }));
  }

  /** After an error in the extended protocol everything is ignored up to the client's Sync. */
  async #skipUntilSync(): Promise<void> {
    let message: ClientMessage;
    do {
      message = await this.#channel.receive(this.#ended.signal);
    } while (message.type !== SYNC.codePointAt(0));
    this.#channel.send(readyForQuery());
  }
}
