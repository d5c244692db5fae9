/*
 * The WAL of a backup while its files are copied (-X stream): a receiver on a connection of its own to the server that the
 * backup comes from. Held by backup-run.ts, which says when. Order as in BaseBackup of PostgreSQL's pg_basebackup.c, but that
 * the slot is there before the backup starts: what the server lacks is told at once, and no checkpoint comes between.
 */
import type { ConvoyError } from '../errors.js';
import { parseBackupLabel } from '../pgdata/backup-label.js';
import type { SourceSpec } from '../source/open-reader.js';
import type { ConnectionSettings } from '../source/connection-settings.js';
import type { OpenedSource } from '../source/open-source.js';
import type { StartedBackup, StoppedBackup } from '../source/source.js';
import type { ProgressCount } from '../progress-counters.js';
import { SYSTEM_CLOCK } from '../clock.js';
import { WalReceiver } from '../wal/wal-receiver.js';
import type { BackupEvents, BackupOptions, WalStreaming } from './backup-options.js';
import { StreamedWal, type StreamedWalOptions } from './streamed-wal.js';

export interface StreamedCount extends ProgressCount {
  /** Bytes of segments. */
  readonly walBytes: number;
}

export class WalStream {
  readonly #receiver: WalReceiver;
  readonly #events: BackupEvents;
  #files: StreamedWal | undefined;

  /** @throws ConvoyError as WalReceiver.open */
  static async open(
    { source, spec }: OpenedSource,
    { slot, statusIntervalMs }: WalStreaming,
    { askPassword }: BackupOptions,
    events: BackupEvents,
    signal: AbortSignal,
  ): Promise<WalStream> {
    const { systemIdentifier, walSegmentBytes: segmentBytes } = source.server;
    const receiver = await WalReceiver.open(patientSettings(spec, source.server.major), {
      systemIdentifier,
      segmentBytes,
      slot,
      statusIntervalMs,
      clock: SYSTEM_CLOCK,
      askPassword,
      signal,
      onNotice: ({ message }) => events.warning(message),
    });
    if (receiver.slot !== undefined && slot.kind !== 'named') {
      events.detail(`created temporary replication slot "${receiver.slot}"`);
    } else if (slot.kind === 'named' && slot.create) {
      events.detail(`created replication slot "${slot.name}"`);
    }
    return new WalStream(receiver, events);
  }

  private constructor(receiver: WalReceiver, events: BackupEvents) {
    this.#receiver = receiver;
    this.#events = events;
  }

  /** Resolves when WAL cannot be received any more; the backup is lost then. */
  get failed(): Promise<ConvoyError> {
    return this.#receiver.failed;
  }

  /** Files that are finished, relative to the data directory. */
  get paths(): readonly string[] {
    return this.#files?.paths ?? [];
  }

  /** What has been written. */
  get written(): StreamedCount {
    const { walBytes = 0, historyBytes = 0 } = this.#files ?? {};
    return { files: this.paths.length, bytes: walBytes + historyBytes, walBytes };
  }

  /** @throws ConvoyError as WalReceiver.start */
  async start({ startLsn, startTimeline }: StartedBackup, files: StreamedWalOptions): Promise<void> {
    this.#events.detail('starting background WAL receiver');
    this.#files = new StreamedWal(files);
    await this.#receiver.start({ lsn: startLsn, timeline: startTimeline }, this.#files);
  }

  /** Returns once all WAL that the backup needs is written. @throws ConvoyError as WalReceiver.finish */
  async finish({ stopLsn, backupLabel }: StoppedBackup): Promise<void> {
    this.#events.detail('waiting for background process to finish streaming ...');
    // the end of a backup switches segments, which a standby cannot
    const endsSegment = parseBackupLabel(backupLabel).backupFrom !== 'standby';
    await this.#receiver.finish({ lsn: stopLsn, endsSegment });
  }

  /** At once; a temporary slot goes with the connection. */
  destroy(): void {
    this.#receiver.destroy();
  }
}

/** The connection is idle until the backup has started, which a role's settings may forbid; `serve` has no such limit. */
function patientSettings({ kind, settings }: SourceSpec, major: number): ConnectionSettings {
  if (kind === 'walsender' || major < 14) return settings;
  return { ...settings, options: `${settings.options ?? ''} -c idle_session_timeout=0` };
}
