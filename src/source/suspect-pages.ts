/*
 * Reads the pages that looked bad once more over SQL: each may have been read while the server was writing it. Pages that
 * follow each other are read together, so that a file that is damaged all over takes as long as copying it did. Called by
 * sql-reader.ts when a task's files have been read. Source: sendFile in PostgreSQL's basebackup.c, which reads each again.
 */
import { ConvoyError } from '../errors.js';
import { PAGE_BYTES, READ_SILENCE_MS } from '../limits.js';
import type { BadPage } from '../pgdata/page-checksum.js';
import { ChunkRowReader, type ChunkRowHandler } from '../wire/binary-copy.js';
import type { ServerConnection } from '../wire/connection.js';
import type { PageScan, SuspectPage } from './page-scan.js';
import { readStatement, type ReadRange } from './sql-statements.js';

/** As for files that are copied: statements of a few dozen kB. */
const RANGES_PER_STATEMENT = 1000;

export interface RereadOptions {
  readonly path: string;
  /** In the order of the file. */
  readonly suspects: readonly SuspectPage[];
  /** Bytes of one row. */
  readonly chunkBytes: number;
  /** Looks at pages from this place in the file on. */
  readonly scanFrom: (fileOffset: number) => PageScan | undefined;
  /** Takes those that are bad again. */
  readonly onBad: (pages: readonly BadPage[]) => void;
}

/** What has been truncated, or is gone, since is not bad: replay does the same. */
export async function rereadSuspects(
  connection: Pick<ServerConnection, 'run'>,
  options: RereadOptions,
): Promise<void> {
  const ranges = rangesOf(options);
  for (let at = 0; at < ranges.length; at += RANGES_PER_STATEMENT) {
    const batch = ranges.slice(at, at + RANGES_PER_STATEMENT);
    const rows = new RereadRows(batch, options);
    const reader = new ChunkRowReader(rows, options.chunkBytes);
    // oxlint-disable-next-line eslint/no-await-in-loop
    await connection.run(readStatement(batch, options.chunkBytes), {
      copy: (piece) => reader.push(piece),
      silenceLimitMs: READ_SILENCE_MS,
    });
    reader.finish();
    rows.finish();
  }
}

function rangesOf({ path, suspects }: RereadOptions): ReadRange[] {
  const ranges: { path: string; offset: number; length: number }[] = [];
  for (const { fileOffset } of suspects) {
    const last = ranges.at(-1);
    if (last !== undefined && last.offset + last.length === fileOffset) last.length += PAGE_BYTES;
    else ranges.push({ path, offset: fileOffset, length: PAGE_BYTES });
  }
  return ranges;
}

/** Puts rows together to runs of pages. */
class RereadRows implements ChunkRowHandler {
  readonly #ranges: readonly ReadRange[];
  readonly #options: RereadOptions;
  #index = -1;
  /** Where in the file the next row begins. */
  #offset = 0;
  #scan: PageScan | undefined;
  #isShort = false;

  constructor(ranges: readonly ReadRange[], options: RereadOptions) {
    this.#ranges = ranges;
    this.#options = options;
  }

  begin(index: number, offset: number, length = 0): void {
    if (index !== this.#index) this.#beginRange(index);
    const range = this.#ranges[index];
    const end = range === undefined ? 0 : range.offset + range.length;
    const expected = Math.min(this.#options.chunkBytes, end - this.#offset);
    if (offset !== this.#offset || length > expected) throw unasked();
    this.#offset += this.#options.chunkBytes;
    this.#isShort ||= length < expected;
  }

  data(chunk: Buffer): undefined {
    this.#scan?.push(chunk);
  }

  end(): void {
    // what comes after a gap does not stand where it would be looked for
    if (this.#isShort) this.#scan?.stop();
  }

  finish(): void {
    if (this.#scan !== undefined) this.#options.onBad(this.#scan.suspects.map(({ page }) => page));
    this.#scan = undefined;
  }

  #beginRange(index: number): void {
    this.finish();
    const range = this.#ranges[index];
    if (range === undefined || index !== this.#index + 1) throw unasked();
    this.#index = index;
    this.#offset = range.offset;
    this.#isShort = false;
    this.#scan = this.#options.scanFrom(range.offset);
  }
}

function unasked(): ConvoyError {
  return new ConvoyError('untrusted_peer', 'the server sent rows that were not asked for');
}
