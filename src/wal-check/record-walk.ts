/*
 * Walks over the records of a stretch of WAL, page by page as they are pushed, and checks each: its length, resource
 * manager, link to the one before, continuation over pages, and CRC. Called by check-segments.ts.
 * Twin of XLogDecodeNextRecord, ValidXLogRecordHeader and ValidXLogRecord in PostgreSQL's
 * src/backend/access/transam/xlogreader.c; the record is XLogRecord in src/include/access/xlogrecord.h.
 */
import { formatLsn, type Lsn } from '../lsn.js';
import { alignedBytes, shortCrc32c, type AlignedBytes } from './short-crc32c.js';
import {
  damaged,
  readWalPageHeader,
  SHORT_HEADER_BYTES,
  WAL_PAGE_BYTES,
  WalDamage,
  type WalPageHeader,
  type WalStream,
} from './wal-page.js';

const RECORD_HEADER_BYTES = 24;
/** Of the record's header, what its CRC covers: all but the CRC itself. */
const CHECKED_HEADER_BYTES = 20;
/** RM_MAX_BUILTIN_ID; those of extensions begin at RM_MIN_CUSTOM_ID (15 and newer). */
const MAX_BUILTIN_MANAGER = 21;
const MIN_CUSTOM_MANAGER = 128;
const XLOG_MANAGER = 0;
const XLOG_SWITCH = 0x40;
/** The upper half of xl_info is the resource manager's (XLR_INFO_MASK). */
const MANAGER_INFO_BITS = 0xf0;
const PAGE = BigInt(WAL_PAGE_BYTES);

export interface WalkLimits {
  /** Where a record begins; or the beginning of a page, for the first record that begins there. */
  readonly startLsn: Lsn;
  /** Records that begin here or later belong to whoever walks on. */
  readonly stopLsn: Lsn;
  /** The end of the backup, which is that of a record. */
  readonly endLsn: Lsn;
}

/** What a walk saw, so that it can be joined to those before and after it. */
export interface WalkSummary {
  /** Where the first record begins; undefined where none does. The beginning of the page where it is the first on it. */
  readonly beginLsn: Lsn | undefined;
  /** Of the first and the last record; undefined without one. */
  readonly links: { readonly previousLsn: Lsn; readonly lastLsn: Lsn } | undefined;
  /** Where the next record begins, in the same way. */
  readonly nextLsn: Lsn;
}

/** A record that goes on on the next page. */
interface OpenRecord {
  readonly lsn: Lsn;
  readonly totalBytes: number;
  takenBytes: number;
  /** Of what follows its header. */
  crc: number;
}

export class RecordWalk {
  readonly #stream: WalStream;
  readonly #limits: WalkLimits;
  readonly #startPageLsn: Lsn;
  #pageLsn: Lsn;
  /** Of the page: where it holds what is of no interest any more. */
  #stopOffset = 0;
  #endOffset = 0;
  #headerBytes = SHORT_HEADER_BYTES;
  #magic: number | undefined;
  #timeline = 0;
  #open: OpenRecord | undefined;
  /** The header of the open record, which may have begun on the page before. */
  readonly #openHeader = alignedBytes(Buffer.from(new ArrayBuffer(RECORD_HEADER_BYTES)));
  #beginLsn: Lsn | undefined;
  /** The link of the first record to the one before, once there is one. */
  #previousLsn: Lsn | undefined;
  /** In halves of 32 bits: a bigint for every record would take longer than its check. */
  #lastHigh = 0;
  #lastLow = 0;
  #nextLsn: Lsn;
  #isDone: boolean;

  constructor(stream: WalStream, limits: WalkLimits) {
    this.#stream = stream;
    this.#limits = limits;
    this.#startPageLsn = (limits.startLsn - (limits.startLsn % PAGE)) as Lsn;
    // the first page of a segment alone says which cluster it is of: as ReadPageInternal, see it first
    this.#pageLsn = (limits.startLsn - (limits.startLsn % BigInt(stream.segmentBytes))) as Lsn;
    this.#nextLsn = limits.startLsn;
    this.#isDone = limits.startLsn >= limits.stopLsn || limits.startLsn >= limits.endLsn;
  }

  get isDone(): boolean {
    return this.#isDone;
  }

  /** The page that push() waits for; those before it are of no interest. */
  get nextPageLsn(): Lsn {
    return this.#pageLsn;
  }

  get summary(): WalkSummary {
    const links =
      this.#previousLsn === undefined
        ? undefined
        : { previousLsn: this.#previousLsn, lastLsn: joined(this.#lastHigh, this.#lastLow) };
    return { beginLsn: this.#beginLsn, links, nextLsn: this.#nextLsn };
  }

  /**
   * @param memory only read; the page begins at `at`, a multiple of 8
   * @throws WalDamage
   */
  push(memory: AlignedBytes, at: number): void {
    const page = memory.bytes.subarray(at, at + WAL_PAGE_BYTES);
    const header = readWalPageHeader(page, this.#pageLsn, this.#stream);
    this.#checkSequence(header);
    if (this.#pageLsn < this.#startPageLsn) {
      this.#pageLsn = this.#startPageLsn;
      return;
    }
    const { stopLsn, endLsn } = this.#limits;
    this.#headerBytes = header.headerBytes;
    this.#stopOffset = Number(stopLsn - this.#pageLsn);
    this.#endOffset = Number(endLsn - this.#pageLsn);
    const high = Number(this.#pageLsn >> 32n);
    const low = Number(this.#pageLsn & 0xffff_ffffn);
    // beyond the page's end after a switch to another segment
    let offset = this.#enter(memory, at, header);
    while (offset < WAL_PAGE_BYTES && !this.#isDone) {
      offset = this.#record(memory, at, offset, high, low + offset);
    }
    if (this.#isDone) return;
    this.#pageLsn = (this.#pageLsn + BigInt(offset)) as Lsn;
    this.#isDone = this.#pageLsn >= endLsn || (this.#open === undefined && this.#pageLsn >= stopLsn);
    this.#nextLsn = this.#pageLsn;
  }

  #checkSequence({ magic, timeline }: WalPageHeader): void {
    if (magic !== (this.#magic ?? magic)) {
      throw damaged(`invalid magic number ${magic.toString(16).toUpperCase()}`, this.#pageLsn, this.#stream);
    }
    if (timeline < this.#timeline) {
      const reason = `out-of-sequence timeline ID ${timeline} (after ${this.#timeline})`;
      throw damaged(reason, this.#pageLsn, this.#stream);
    }
    if (timeline > this.#stream.timeline) {
      throw damaged(`unexpected timeline ID ${timeline}`, this.#pageLsn, this.#stream);
    }
    this.#magic = magic;
    this.#timeline = timeline;
  }

  /** @returns where on the page the first record begins, the page's length where none does */
  #enter(memory: AlignedBytes, at: number, header: WalPageHeader): number {
    const { headerBytes, isContinued, isOverwritten, remainingBytes } = header;
    // what was to follow here got lost in a crash: PostgreSQL has gone on in its place
    if (isOverwritten) this.#open = undefined;
    if (this.#open !== undefined) return this.#continue(this.#open, memory, at, header);
    const startOffset = Number(this.#limits.startLsn - this.#pageLsn);
    if (startOffset >= headerBytes) return aligned(startOffset);
    if (!isContinued) return headerBytes;
    if (this.#beginLsn !== undefined) {
      throw new WalDamage(`contrecord is requested by ${formatLsn(this.#lsnAt(headerBytes))}`);
    }
    return Math.min(headerBytes + aligned(remainingBytes), WAL_PAGE_BYTES);
  }

  /** Takes what this page has of the open record. */
  #continue(open: OpenRecord, memory: AlignedBytes, at: number, header: WalPageHeader): number {
    const { headerBytes, isContinued, remainingBytes } = header;
    const missingBytes = open.totalBytes - open.takenBytes;
    if (!isContinued) throw new WalDamage(`there is no contrecord flag at ${formatLsn(open.lsn)}`);
    if (remainingBytes !== missingBytes) {
      throw new WalDamage(
        `invalid contrecord length ${remainingBytes} (expected ${missingBytes}) at ${formatLsn(open.lsn)}`,
      );
    }
    const end = Math.min(headerBytes + missingBytes, WAL_PAGE_BYTES);
    if (end > this.#endOffset) throw this.#overrun(open.lsn);
    this.#take(open, memory, at + headerBytes, at + end);
    if (open.takenBytes < open.totalBytes) return WAL_PAGE_BYTES;
    this.#open = undefined;
    const [high, low] = [Number(open.lsn >> 32n), Number(open.lsn & 0xffff_ffffn)];
    this.#checkCrc(this.#openHeader, 0, open.crc, high, low);
    return this.#passed(this.#openHeader, 0, aligned(end), high, low);
  }

  /** One record that begins on this page, at the address `high`/`low`. @returns where the next begins */
  #record(memory: AlignedBytes, at: number, offset: number, high: number, low: number): number {
    if (offset >= this.#endOffset || offset >= this.#stopOffset) return this.#finish(offset);
    this.#beginLsn ??= this.#boundaryAt(offset);
    const start = at + offset;
    const totalBytes = (memory.words[start >> 2] ?? 0) >>> 0;
    const roomBytes = WAL_PAGE_BYTES - offset;
    if (totalBytes < RECORD_HEADER_BYTES) {
      throw new WalDamage(
        `invalid record length at ${lsnText(high, low)}: expected at least ${RECORD_HEADER_BYTES}, got ${totalBytes}`,
      );
    }
    if (roomBytes >= RECORD_HEADER_BYTES) this.#checkHeader(memory, start, high, low);
    if (totalBytes > roomBytes) {
      if (this.#endOffset <= WAL_PAGE_BYTES) throw this.#overrun(this.#lsnAt(offset));
      this.#open = { lsn: this.#lsnAt(offset), totalBytes, takenBytes: 0, crc: 0 };
      this.#take(this.#open, memory, start, at + WAL_PAGE_BYTES);
      return WAL_PAGE_BYTES;
    }
    if (offset + totalBytes > this.#endOffset) throw this.#overrun(this.#lsnAt(offset));
    const crc = shortCrc32c(memory, start + RECORD_HEADER_BYTES, start + totalBytes, 0);
    this.#checkCrc(memory, start, crc, high, low);
    return this.#passed(memory, start, offset + aligned(totalBytes), high, low);
  }

  /** Bytes of the open record, from `from` on, be they of its header or of what follows that. */
  #take(open: OpenRecord, memory: AlignedBytes, from: number, end: number): void {
    let at = from;
    if (open.takenBytes < RECORD_HEADER_BYTES) {
      const hadPart = open.takenBytes > 0;
      at = Math.min(end, from + RECORD_HEADER_BYTES - open.takenBytes);
      memory.bytes.copy(this.#openHeader.bytes, open.takenBytes, from, at);
      if (hadPart)
        this.#checkHeader(this.#openHeader, 0, Number(open.lsn >> 32n), Number(open.lsn & 0xffff_ffffn));
    }
    open.crc = shortCrc32c(memory, at, end, open.crc);
    open.takenBytes += end - from;
  }

  #checkHeader(memory: AlignedBytes, at: number, high: number, low: number): void {
    const manager = memory.bytes[at + 17] ?? 0;
    const previousLow = (memory.words[(at >> 2) + 2] ?? 0) >>> 0;
    const previousHigh = (memory.words[(at >> 2) + 3] ?? 0) >>> 0;
    if (manager > MAX_BUILTIN_MANAGER && manager < MIN_CUSTOM_MANAGER) {
      throw new WalDamage(`invalid resource manager ID ${manager} at ${lsnText(high, low)}`);
    }
    const isLinked =
      this.#previousLsn === undefined
        ? previousHigh < high || (previousHigh === high && previousLow < low)
        : previousHigh === this.#lastHigh && previousLow === this.#lastLow;
    if (!isLinked) throw incorrectPrevious(lsnText(previousHigh, previousLow), lsnText(high, low));
  }

  #checkCrc(memory: AlignedBytes, at: number, crcOfRest: number, high: number, low: number): void {
    const crc = shortCrc32c(memory, at, at + CHECKED_HEADER_BYTES, crcOfRest);
    if ((crc | 0) !== memory.words[(at + CHECKED_HEADER_BYTES) >> 2]) {
      throw new WalDamage(`incorrect resource manager data checksum in record at ${lsnText(high, low)}`);
    }
  }

  /** The record whose header is at `at` is good. @returns where on the page the next one begins */
  #passed(memory: AlignedBytes, at: number, nextOffset: number, high: number, low: number): number {
    this.#previousLsn ??= memory.bytes.readBigUInt64LE(at + 8) as Lsn;
    this.#lastHigh = high;
    this.#lastLow = low;
    const info = memory.bytes[at + 16] ?? 0;
    const isSwitch = memory.bytes[at + 17] === XLOG_MANAGER && (info & MANAGER_INFO_BITS) === XLOG_SWITCH;
    if (!isSwitch) return nextOffset;
    // what follows in this segment is nothing
    const segment = BigInt(this.#stream.segmentBytes);
    const nextLsn = this.#lsnAt(nextOffset);
    return nextOffset + Number((segment - (nextLsn % segment)) % segment);
  }

  #finish(offset: number): number {
    this.#nextLsn = this.#boundaryAt(offset);
    this.#isDone = true;
    return offset;
  }

  /** pg_waldump lets such a record be; but where a backup ends a record ends, so its length must be wrong. */
  #overrun(lsn: Lsn): WalDamage {
    const end = formatLsn(this.#limits.endLsn);
    return new WalDamage(`record at ${formatLsn(lsn)} goes on after the end of the backup at ${end}`);
  }

  /** The first place for a record on a page and the end of the page before are the same to whoever comes from there. */
  #boundaryAt(offset: number): Lsn {
    return this.#lsnAt(offset === this.#headerBytes ? 0 : offset);
  }

  #lsnAt(offset: number): Lsn {
    return (this.#pageLsn + BigInt(offset)) as Lsn;
  }
}

export function incorrectPrevious(previous: string, lsn: string): WalDamage {
  return new WalDamage(`record with incorrect prev-link ${previous} at ${lsn}`);
}

/** MAXALIGN: where records begin. */
function aligned(bytes: number): number {
  return Math.ceil(bytes / 8) * 8;
}

function joined(high: number, low: number): Lsn {
  return ((BigInt(high) << 32n) | BigInt(low)) as Lsn;
}

function lsnText(high: number, low: number): string {
  return formatLsn(joined(high, low));
}
