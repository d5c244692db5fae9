/*
 * The members that arrive when a backup stops: pg_control first, then the WAL segments from the start of the backup on, one
 * after the other, then history files, each with its .done file right behind it, and nothing else. Stands between the tar
 * reader and whoever writes them. Where the backup ends is only said after them, so each must follow the one before.
 */
import { ConvoyError } from '../errors.js';
import {
  CONTROL_FILE_BYTES,
  MAX_BACKUP_WAL_BYTES,
  MAX_HISTORY_FILE_BYTES,
  MAX_HISTORY_FILES,
} from '../limits.js';
import type { Lsn } from '../lsn.js';
import { CONTROL_FILE_PATH } from '../pgdata/control-file.js';
import {
  isHistoryFileName,
  lastSegmentNumberBefore,
  parseWalSegmentName,
  segmentNumberOf,
} from '../pgdata/wal-names.js';
import type { TarHeader } from '../tar/tar-header.js';
import type { TarMemberHandler } from '../tar/tar-members.js';
import type { StopReceiver } from './source.js';

export interface StopMembersOptions {
  readonly includeWal: boolean;
  readonly segmentBytes: number;
  /** Where the backup starts. */
  readonly startLsn: Lsn;
}

export class StopMembers implements TarMemberHandler {
  readonly #receiver: StopReceiver;
  readonly #options: StopMembersOptions;
  readonly #firstSegment: bigint;
  #memberCount = 0;
  #hasControlFile = false;
  /** The number of the newest segment so far; before the first, the one before it. */
  #lastSegment: bigint;
  /** Segments of this number, which may come from several timelines. */
  readonly #ofLastSegment = new Set<string>();
  #walBytes = 0;
  readonly #history = new Set<string>();
  /** The .done file that may come next. */
  #statusFile: string | undefined;

  constructor(receiver: StopReceiver, options: StopMembersOptions) {
    this.#receiver = receiver;
    this.#options = options;
    this.#firstSegment = segmentNumberOf(options.startLsn, options.segmentBytes);
    this.#lastSegment = this.#firstSegment - 1n;
  }

  begin(header: TarHeader): void {
    const { name, size, mode, mtime, owner } = header;
    if (header.type !== 'file' || !this.#isExpected(name, size)) {
      throw new ConvoyError(
        'untrusted_peer',
        `the server sent what was not asked for: "${name.slice(0, 200)}"`,
      );
    }
    this.#memberCount += 1;
    this.#receiver.begin({ path: name, size, mode, mtime, owner });
  }

  data(chunk: Buffer): Promise<void> | undefined {
    return this.#receiver.data(chunk);
  }

  end(): void {
    this.#receiver.end();
  }

  /** @throws ConvoyError `untrusted_peer` without pg_control, and what finishWal throws */
  finish(stopLsn: Lsn): void {
    if (!this.#hasControlFile) {
      throw new ConvoyError('untrusted_peer', `the server did not send "${CONTROL_FILE_PATH}"`);
    }
    this.finishWal(stopLsn);
  }

  /** @throws ConvoyError `wal_missing` where WAL ends before the backup does, `untrusted_peer` where it goes on */
  finishWal(stopLsn: Lsn): void {
    const { startLsn, includeWal, segmentBytes } = this.#options;
    if (stopLsn < startLsn) throw new ConvoyError('untrusted_peer', 'the backup ended before it started');
    if (!includeWal) return;
    const last = lastSegmentNumberBefore(stopLsn, segmentBytes);
    if (this.#lastSegment < last) throw missingSegment(this.#lastSegment + 1n);
    if (this.#lastSegment > last && this.#lastSegment >= this.#firstSegment) {
      throw new ConvoyError('untrusted_peer', 'the server sent WAL from after the end of the backup');
    }
  }

  #isExpected(name: string, size: number): boolean {
    const { includeWal, segmentBytes } = this.#options;
    if (name === CONTROL_FILE_PATH) {
      this.#hasControlFile = size === CONTROL_FILE_BYTES && this.#memberCount === 0;
      return this.#hasControlFile;
    }
    if (!includeWal) return false;
    if (name === this.#statusFile) {
      this.#statusFile = undefined;
      return size === 0;
    }
    const fileName = name.startsWith('pg_wal/') ? name.slice('pg_wal/'.length) : '';
    this.#statusFile = `pg_wal/archive_status/${fileName}.done`;
    if (isHistoryFileName(fileName)) return this.#isNewHistory(fileName, size);
    const segment = parseWalSegmentName(fileName, segmentBytes);
    return segment !== undefined && size === segmentBytes && this.#isNext(fileName, segment.segmentNumber);
  }

  #isNewHistory(fileName: string, size: number): boolean {
    if (this.#history.has(fileName) || this.#history.size >= MAX_HISTORY_FILES) return false;
    this.#history.add(fileName);
    return size <= MAX_HISTORY_FILE_BYTES;
  }

  /** @throws ConvoyError `wal_missing` where one was left out */
  #isNext(fileName: string, segmentNumber: bigint): boolean {
    this.#walBytes += this.#options.segmentBytes;
    if (this.#history.size > 0 || this.#walBytes > MAX_BACKUP_WAL_BYTES) return false;
    if (segmentNumber > this.#lastSegment + 1n) throw missingSegment(this.#lastSegment + 1n);
    if (segmentNumber < this.#firstSegment || segmentNumber < this.#lastSegment) return false;
    if (segmentNumber > this.#lastSegment) this.#ofLastSegment.clear();
    this.#lastSegment = segmentNumber;
    if (this.#ofLastSegment.has(fileName)) return false;
    this.#ofLastSegment.add(fileName);
    return true;
  }
}

function missingSegment(segmentNumber: bigint): ConvoyError {
  return new ConvoyError('wal_missing', `the server did not send WAL segment ${segmentNumber} of the backup`);
}
