/*
 * The members that arrive when a backup stops: pg_control first, then WAL segments with their .done files, then
 * history files, and nothing else. Stands between the tar reader and whoever writes them.
 */
import { ConvoyError } from '../errors.js';
import { CONTROL_FILE_BYTES, MAX_HISTORY_FILE_BYTES } from '../limits.js';
import type { Lsn } from '../lsn.js';
import { CONTROL_FILE_PATH } from '../pgdata/control-file.js';
import { firstMissingSegment } from '../pgdata/backup-wal.js';
import { isHistoryFileName, parseWalSegmentName } from '../pgdata/wal-names.js';
import type { TarHeader } from '../tar/tar-header.js';
import type { TarMemberHandler } from '../tar/tar-members.js';
import type { StopReceiver } from './source.js';

const STATUS_FILE = /^pg_wal\/archive_status\/([0-9A-F]{24}|[0-9A-F]{8}\.history)\.done$/;

export class StopMembers implements TarMemberHandler {
  readonly #receiver: StopReceiver;
  readonly #includeWal: boolean;
  readonly #segmentBytes: number;
  readonly #seen = new Set<string>();
  readonly #segmentNumbers = new Set<bigint>();

  constructor(receiver: StopReceiver, includeWal: boolean, segmentBytes: number) {
    this.#receiver = receiver;
    this.#includeWal = includeWal;
    this.#segmentBytes = segmentBytes;
  }

  begin(header: TarHeader): void {
    const { name, size, mode, mtime } = header;
    if (header.type !== 'file' || this.#seen.has(name) || !this.#isExpected(name, size)) {
      throw new ConvoyError(
        'untrusted_peer',
        `the server sent what was not asked for: "${name.slice(0, 200)}"`,
      );
    }
    this.#seen.add(name);
    this.#receiver.begin({ path: name, size, mode, mtime });
  }

  data(chunk: Buffer): Promise<void> | undefined {
    return this.#receiver.data(chunk);
  }

  end(): void {
    this.#receiver.end();
  }

  /** @throws ConvoyError `untrusted_peer` without pg_control, and what finishWal throws */
  finish({ startLsn, stopLsn }: { startLsn: Lsn; stopLsn: Lsn }): void {
    if (!this.#seen.has(CONTROL_FILE_PATH)) {
      throw new ConvoyError('untrusted_peer', `the server did not send "${CONTROL_FILE_PATH}"`);
    }
    this.finishWal({ startLsn, stopLsn });
  }

  /** @throws ConvoyError `wal_missing` for a gap between start and stop, where WAL was asked for */
  finishWal({ startLsn, stopLsn }: { startLsn: Lsn; stopLsn: Lsn }): void {
    if (stopLsn < startLsn) throw new ConvoyError('untrusted_peer', 'the backup ended before it started');
    if (!this.#includeWal) return;
    const wal = { startLsn, stopLsn, segmentBytes: this.#segmentBytes };
    const missing = firstMissingSegment(this.#segmentNumbers, wal);
    if (missing === undefined) return;
    throw new ConvoyError('wal_missing', `the server did not send WAL segment ${missing} of the backup`);
  }

  #isExpected(name: string, size: number): boolean {
    if (name === CONTROL_FILE_PATH) return size === CONTROL_FILE_BYTES && this.#seen.size === 0;
    if (!this.#includeWal) return false;
    if (STATUS_FILE.test(name)) return size === 0;
    const fileName = name.startsWith('pg_wal/') ? name.slice('pg_wal/'.length) : '';
    if (isHistoryFileName(fileName)) return size <= MAX_HISTORY_FILE_BYTES;
    const segment = parseWalSegmentName(fileName, this.#segmentBytes);
    if (segment === undefined || size !== this.#segmentBytes) return false;
    this.#segmentNumbers.add(segment.segmentNumber);
    return true;
  }
}
