/*
 * Checks the pages of one file while its bytes pass through a worker, in place where they lie in page memory (the
 * receive buffer does, without TLS), copied into it where they do not. A page that is split over two reads is put
 * together on the side. Suspects are read again later (suspect-pages.ts).
 */
import { PAGE_BYTES, SEGMENT_PAGES } from '../limits.js';
import type { Lsn } from '../lsn.js';
import type { BadPage, PageMemory } from '../pgdata/page-checksum.js';
import type { ChecksummedSegment } from '../pgdata/page-verifier.js';

export interface SuspectPage {
  readonly page: BadPage;
  /** Where the page begins in the file; bytes. */
  readonly fileOffset: number;
}

export class PageScan {
  readonly suspects: SuspectPage[] = [];
  readonly #memory: PageMemory;
  readonly #staging: Buffer;
  readonly #startLsn: Lsn;
  /** Block in the relation of the segment's first page. */
  readonly #segmentBlock: number;
  /** Where in the file the next page begins. */
  #fileOffset: number;
  #isStopped = false;
  /** Bytes of a split page that are on the side. */
  #held = 0;

  /**
   * @param staging a buffer of `memory`, used by this scan alone until it has seen its last byte
   * @param fileOffset where in the file it begins: a multiple of the page size
   */
  constructor(
    memory: PageMemory,
    staging: Buffer,
    { segmentNumber }: ChecksummedSegment,
    startLsn: Lsn,
    fileOffset: number,
  ) {
    this.#memory = memory;
    this.#staging = staging;
    this.#startLsn = startLsn;
    this.#segmentBlock = segmentNumber * SEGMENT_PAGES;
    this.#fileOffset = fileOffset;
  }

  /** The next bytes of the file; only read, before the call returns. A part of a page at the end is not checked. */
  push(chunk: Buffer): void {
    if (this.#isStopped) return;
    let offset = 0;
    if (this.#held > 0) {
      offset = chunk.copy(this.#staging, this.#held, 0, PAGE_BYTES - this.#held);
      this.#held += offset;
      if (this.#held < PAGE_BYTES) return;
      this.#held = 0;
      this.#check(this.#staging.subarray(0, PAGE_BYTES));
    }
    const wholeBytes = (chunk.length - offset) & ~(PAGE_BYTES - 1);
    this.#checkWhole(chunk.subarray(offset, offset + wholeBytes));
    this.#held = chunk.copy(this.#staging, 0, offset + wholeBytes);
  }

  /** The file is not what it was: from here on its bytes are not those of the pages that they stand for. */
  stop(): void {
    this.#isStopped = true;
  }

  #checkWhole(pages: Buffer): void {
    if (this.#memory.contains(pages)) {
      this.#check(pages);
      return;
    }
    for (let at = 0; at < pages.length; at += this.#staging.length) {
      const copied = pages.copy(this.#staging, 0, at);
      this.#check(this.#staging.subarray(0, copied));
    }
  }

  #check(pages: Buffer): void {
    if (pages.length === 0) return;
    const firstBlock = this.#segmentBlock + this.#fileOffset / PAGE_BYTES;
    for (const page of this.#memory.findBadPages(pages, { firstBlock, startLsn: this.#startLsn })) {
      this.suspects.push({ page, fileOffset: (page.block - this.#segmentBlock) * PAGE_BYTES });
    }
    this.#fileOffset += pages.length;
  }
}
