/*
 * What is computed over the content of a file, or of a range of one, while its bytes pass: checksum and bad pages.
 * Called by check-files.ts and check-archive.ts, in the threads of `verify`.
 */
import { createFileChecksum, type ChecksumAlgorithm, type FileChecksum } from '../checksum.js';
import type { Lsn } from '../lsn.js';
import type { RecordedFile } from '../manifest/manifest.js';
import type { PageMemory } from '../pgdata/page-checksum.js';
import { checksummedSegment, SegmentVerifier, type PageVerification } from '../pgdata/page-verifier.js';

/** What pages are checked with; a thread has one. */
export interface PageTools {
  readonly memory: PageMemory;
  readonly startLsn: Lsn;
}

export class ContentCheck {
  readonly #checksum: FileChecksum;
  readonly #pages: SegmentVerifier | undefined;

  /** @param algorithm NONE where no checksum is wanted */
  constructor(path: string, algorithm: ChecksumAlgorithm, pages: PageTools | undefined) {
    this.#checksum = createFileChecksum(algorithm);
    const segment = pages === undefined ? undefined : checksummedSegment(path);
    if (pages !== undefined && segment !== undefined) {
      this.#pages = new SegmentVerifier(pages.memory, segment, pages.startLsn);
    }
  }

  /** @param chunk borrowed; lies in the page memory where pages are checked @param offset in the file, bytes */
  update(chunk: Buffer, offset: number): void {
    this.#checksum.update(chunk);
    // nobody writes to a backup: what looks bad is bad
    this.#pages?.record(this.#pages.findSuspects(chunk, offset));
  }

  /** Call once. */
  digest(): string {
    return this.#checksum.digest();
  }

  /** Undefined where the file has no pages, or they were not to be checked. */
  get pages(): PageVerification | undefined {
    return this.#pages?.verification;
  }
}

/** Whether anything is to be read of the file at all. */
export function isRead({ path, algorithm }: RecordedFile, checkFiles: boolean, checkPages: boolean): boolean {
  return (checkFiles && algorithm !== 'NONE') || (checkPages && checksummedSegment(path) !== undefined);
}

/** What is wrong with a checksum, undefined where it is right. @param where ` in archive "..."`, or nothing */
export function checksumProblem(
  { path, checksum }: RecordedFile,
  found: string,
  where: string,
): string | undefined {
  if (found === checksum) return undefined;
  if (found.length !== checksum.length) {
    const [has, expected] = [checksum.length / 2, found.length / 2];
    return `file "${path}"${where} has checksum of length ${has}, but expected ${expected}`;
  }
  return `checksum mismatch for file "${path}"${where}`;
}
