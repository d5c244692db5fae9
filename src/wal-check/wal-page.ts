/*
 * The header of a WAL page, read and checked; called by record-walk.ts for every page.
 * Source: XLogPageHeaderData and XLogLongPageHeaderData in PostgreSQL's src/include/access/xlog_internal.h, the checks
 * and their words from XLogReaderValidatePageHeader in src/backend/access/transam/xlogreader.c.
 */
import { PAGE_BYTES } from '../limits.js';
import { formatLsn, type Lsn } from '../lsn.js';
import { segmentNumberOf, walSegmentName } from '../pgdata/wal-names.js';

/** XLOG_BLCKSZ: that of a block of a table in every build that pgconvoy reads. */
export const WAL_PAGE_BYTES = PAGE_BYTES;
export const SHORT_HEADER_BYTES = 24;
export const LONG_HEADER_BYTES = 40;
/** Of xlp_seg_size in the long header, which every segment begins with. */
export const SEGMENT_SIZE_OFFSET = 32;

/** XLOG_PAGE_MAGIC of 13, 14, ... 18. */
const MAGIC_NUMBERS: readonly number[] = [0xd106, 0xd10d, 0xd110, 0xd113, 0xd116, 0xd118];

const FIRST_IS_CONTRECORD = 0x0001;
const LONG_HEADER = 0x0002;
const FIRST_IS_OVERWRITE_CONTRECORD = 0x0008;
const ALL_FLAGS = 0x000f;

/** What all pages of a range of WAL have in common. */
export interface WalStream {
  readonly timeline: number;
  readonly segmentBytes: number;
  /** Undefined where nothing says it. */
  readonly systemIdentifier: bigint | undefined;
}

export interface WalPageHeader {
  readonly magic: number;
  readonly timeline: number;
  /** Bytes before the first record, or before the rest of one that began on an earlier page. */
  readonly headerBytes: number;
  /** The page begins with the rest of a record. */
  readonly isContinued: boolean;
  /** The rest of a record that was to be here never came; a new one begins. */
  readonly isOverwritten: boolean;
  /** What is left of the continued record from this page on, bytes. */
  readonly remainingBytes: number;
}

/** What is wrong with WAL, in the words of PostgreSQL's reader. */
export class WalDamage extends Error {
  override readonly name = 'WalDamage';
}

/** @param lsn where the page is to be in the WAL @throws WalDamage */
export function readWalPageHeader(page: Buffer, lsn: Lsn, stream: WalStream): WalPageHeader {
  const magic = page.readUInt16LE(0);
  const info = page.readUInt16LE(2);
  if (!MAGIC_NUMBERS.includes(magic)) throw damaged(`invalid magic number ${hex4(magic)}`, lsn, stream);
  const isLong = (info & LONG_HEADER) !== 0;
  const beginsSegment = lsn % BigInt(stream.segmentBytes) === 0n;
  if ((info & ~ALL_FLAGS) !== 0 || (beginsSegment && !isLong)) {
    throw damaged(`invalid info bits ${hex4(info)}`, lsn, stream);
  }
  if (isLong) checkLongHeader(page, stream);
  const address = page.readBigUInt64LE(8) as Lsn;
  if (address !== lsn) throw damaged(`unexpected pageaddr ${formatLsn(address)}`, lsn, stream);
  return {
    magic,
    timeline: page.readUInt32LE(4),
    headerBytes: isLong ? LONG_HEADER_BYTES : SHORT_HEADER_BYTES,
    isContinued: (info & FIRST_IS_CONTRECORD) !== 0,
    isOverwritten: (info & FIRST_IS_OVERWRITE_CONTRECORD) !== 0,
    remainingBytes: page.readUInt32LE(16),
  };
}

function checkLongHeader(page: Buffer, { segmentBytes, systemIdentifier }: WalStream): void {
  const found = page.readBigUInt64LE(24);
  const other = 'WAL file is from different database system';
  if (systemIdentifier !== undefined && found !== systemIdentifier) {
    throw new WalDamage(
      `${other}: WAL file database system identifier is ${found}, ` +
        `pg_control database system identifier is ${systemIdentifier}`,
    );
  }
  if (page.readUInt32LE(SEGMENT_SIZE_OFFSET) !== segmentBytes) {
    throw new WalDamage(`${other}: incorrect segment size in page header`);
  }
  if (page.readUInt32LE(36) !== WAL_PAGE_BYTES) {
    throw new WalDamage(`${other}: incorrect XLOG_BLCKSZ in page header`);
  }
}

/** Says where: `<reason> in WAL segment ..., LSN ..., offset ...`. */
export function damaged(reason: string, lsn: Lsn, { timeline, segmentBytes }: WalStream): WalDamage {
  const segmentNumber = segmentNumberOf(lsn, segmentBytes);
  const segment = walSegmentName({ timeline, segmentNumber }, segmentBytes);
  const offset = lsn % BigInt(segmentBytes);
  return new WalDamage(`${reason} in WAL segment ${segment}, LSN ${formatLsn(lsn)}, offset ${offset}`);
}

function hex4(value: number): string {
  return value.toString(16).toUpperCase().padStart(4, '0');
}
