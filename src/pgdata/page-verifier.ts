/*
 * Which files of a cluster carry page checksums, and what checking one of them came to. Called wherever relation
 * files pass through a PageMemory: by the copy on the client and by SEND_BACKUP_FILES in `serve`.
 * Twin of sendDir(), sendFile() and read_file_data_into_buffer() in PostgreSQL 17's src/backend/backup/basebackup.c
 * and of parse_filename_for_nontemp_relation() in src/backend/storage/file/reinit.c. Up to 16 the server checked every
 * file of these directories but a few known ones, and called a stray "notes.txt" an invalid segment number.
 */
import { PAGE_BYTES, SEGMENT_PAGES } from '../limits.js';
import type { Lsn } from '../lsn.js';
import type { BadPage, PageMemory } from './page-checksum.js';

/** Directories that hold relations; a tablespace is known by its version directory, wherever it lies. */
const RELATION_PATH = /^(?:\.\/)?(?:global|base\/\d+|(?:.*\/)?PG_\d+_\d+\/\d+)\/([^/]+)$/s;

const RELATION_FILE = /^([1-9]\d*)(?:_(?:fsm|vm|init))?(?:\.([1-9]\d*))?$/;

const MAX_UINT32 = 0xffff_ffff;

/** As many bad pages of one file are named, the others only counted (basebackup.c). */
export const NAMED_BAD_PAGES = 5;

export interface ChecksummedSegment {
  /** 0 for the file without a suffix; N for "<relation>.N". */
  readonly segmentNumber: number;
}

/**
 * The segment whose pages a file holds, or undefined where a file has no page checksums.
 *
 * @param path below the data directory, with or without "./" ("base/5/16384.1"), or of a file of a tablespace, from
 *   any point above its version directory on ("PG_15_202209061/5/16384", "pg_tblspc/16385/PG_...", an absolute path)
 */
export function checksummedSegment(path: string): ChecksummedSegment | undefined {
  const fileName = RELATION_PATH.exec(path)?.[1];
  if (fileName === undefined) return undefined;
  const relation = RELATION_FILE.exec(fileName);
  if (relation === null) return undefined;
  const segmentNumber = Number(relation[2] ?? 0);
  if (Number(relation[1]) > MAX_UINT32 || segmentNumber > MAX_UINT32) return undefined;
  return { segmentNumber };
}

/** What checking one segment file came to; plain data. */
export interface PageVerification {
  readonly badPageCount: number;
  /** The first five in the order of finding. */
  readonly badPages: readonly BadPage[];
  /** Where the file stopped being whole pages; nothing was checked from there on. */
  readonly unverifiedFrom?: { readonly block: number; readonly readBytes: number };
}

/**
 * Reads one page of the file anew into `page`.
 *
 * @returns how many bytes the file still has there; fewer than a page where it has been truncated since
 */
export type RereadPage = (page: Uint8Array, fileOffset: number) => Promise<number>;

/**
 * The check of one segment file, from its chunks as they pass. A bad page of a running server is only a suspect: it may
 * have been read half-written. So a chunk goes through findSuspects(), and then through recheck() where the page can be
 * read again, or record() where it cannot.
 */
export class SegmentVerifier {
  readonly #memory: PageMemory;
  readonly #startLsn: Lsn;
  readonly #firstBlock: number;
  readonly #badPages: BadPage[] = [];
  #badPageCount = 0;
  #unverifiedFrom: PageVerification['unverifiedFrom'];

  /** @param startLsn the start of the backup; pages changed since then are not checked */
  constructor(memory: PageMemory, { segmentNumber }: ChecksummedSegment, startLsn: Lsn) {
    this.#memory = memory;
    this.#startLsn = startLsn;
    this.#firstBlock = segmentNumber * SEGMENT_PAGES;
  }

  /**
   * The pages of a chunk that look bad; none of them counts yet. Whole pages only: after a chunk that ends inside a
   * page nothing is checked any more.
   *
   * @param chunk a view of the page memory, borrowed until the call returns
   * @param fileOffset where in the file it comes from, bytes
   */
  findSuspects(chunk: Uint8Array, fileOffset: number): readonly BadPage[] {
    if (this.#unverifiedFrom !== undefined) return [];
    const firstBlock = this.#blockAt(fileOffset);
    const tailBytes = chunk.byteLength % PAGE_BYTES;
    const pages = chunk.subarray(0, chunk.byteLength - tailBytes);
    if (tailBytes > 0) {
      const block = this.#blockAt(fileOffset + pages.byteLength);
      this.#unverifiedFrom = { block, readBytes: chunk.byteLength };
    }
    return this.#memory.findBadPages(pages, { firstBlock, startLsn: this.#startLsn });
  }

  /** Counts pages as bad. */
  record(badPages: readonly BadPage[]): void {
    this.#badPageCount += badPages.length;
    this.#badPages.push(...badPages.slice(0, NAMED_BAD_PAGES - this.#badPages.length));
  }

  /**
   * Reads each suspect once more, into its place in the chunk, and records those that are bad again.
   *
   * @param chunk the chunk that findSuspects() was given, borrowed until the promise settles
   * @returns how many bytes of the chunk hold: all, or those before the first page that the file no longer has
   */
  async recheck(
    chunk: Uint8Array,
    fileOffset: number,
    suspects: readonly BadPage[],
    reread: RereadPage,
  ): Promise<number> {
    const firstBlock = this.#blockAt(fileOffset);
    for (const { block } of suspects) {
      const chunkOffset = ((block - firstBlock) >>> 0) * PAGE_BYTES;
      const page = chunk.subarray(chunkOffset, chunkOffset + PAGE_BYTES);
      // One after the other: a truncated file ends the chunk at the first page that is gone.
      // oxlint-disable-next-line eslint/no-await-in-loop
      const readBytes = await reread(page, fileOffset + chunkOffset);
      if (readBytes < PAGE_BYTES) return chunkOffset;
      this.record(this.#memory.findBadPages(page, { firstBlock: block, startLsn: this.#startLsn }));
    }
    return chunk.byteLength;
  }

  get verification(): PageVerification {
    return {
      badPageCount: this.#badPageCount,
      badPages: [...this.#badPages],
      ...(this.#unverifiedFrom === undefined ? {} : { unverifiedFrom: this.#unverifiedFrom }),
    };
  }

  /** The block in the relation; modulo 2^32 like BlockNumber, for a file with a senseless segment number. */
  #blockAt(fileOffset: number): number {
    if (fileOffset % PAGE_BYTES !== 0) {
      throw new RangeError(`file offset ${fileOffset} is not the beginning of a page`);
    }
    return (this.#firstBlock + fileOffset / PAGE_BYTES) >>> 0;
  }
}

/** The warnings that a server would give about a file, one line each; none for a good one. */
export function verificationWarnings(path: string, verification: PageVerification): string[] {
  const { badPageCount, badPages, unverifiedFrom } = verification;
  const warnings = badPages.map(
    ({ block, calculated, expected }) =>
      `checksum verification failed in file "${path}", block ${block}: ` +
      `calculated ${hex(calculated)} but expected ${hex(expected)}`,
  );
  if (badPageCount >= NAMED_BAD_PAGES) {
    warnings.push(`further checksum verification failures in file "${path}" will not be reported`);
  }
  if (unverifiedFrom !== undefined) {
    warnings.push(
      `could not verify checksum in file "${path}", block ${unverifiedFrom.block}: ` +
        `read buffer size ${unverifiedFrom.readBytes} and page size ${PAGE_BYTES} differ`,
    );
  }
  if (badPageCount > 1) {
    warnings.push(`file "${path}" has a total of ${badPageCount} checksum verification failures`);
  }
  return warnings;
}

function hex(checksum: number): string {
  return checksum.toString(16).toUpperCase();
}
