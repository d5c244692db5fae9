/*
 * A worker's side of a stock server: files, or ranges of files, read through COPY of pg_read_binary_file, one
 * statement a task. What the server does for other sources is done here: cut and zero-fill, page checks with a second read of each
 * suspect. Facts: pg_rewind's libpq_source.c, and sendFile in basebackup.c for the page check.
 */
import { ConvoyError } from '../errors.js';
import { READ_SILENCE_MS } from '../limits.js';
import type { Lsn } from '../lsn.js';
import { PageMemory } from '../pgdata/page-checksum.js';
import { checksummedSegment, SegmentVerifier, verificationWarnings } from '../pgdata/page-verifier.js';
import { ChunkRowReader, type ChunkRowHandler } from '../wire/binary-copy.js';
import type { ServerConnection } from '../wire/connection.js';
import type { ConnectionSettings } from '../wire/conninfo.js';
import { assertSameServer, identifyOverSql, type ServerIdentity } from './server-identity.js';
import { PageScan, type SuspectPage } from './page-scan.js';
import type { FileReader, FileReceiver, FileToRead, ReadOptions, ReadResult } from './source.js';
import { openSqlSession } from './sql-session.js';
import { readStatement } from './sql-statements.js';
import { rereadSuspects } from './suspect-pages.js';

/** One row of the COPY: rows of 128 KiB to 1 MiB are the fastest. */
const CHUNK_BYTES = 512 * 1024;
/** The receive buffer, and one beside it for pages that are split over two reads. */
const BUFFER_BYTES = 512 * 1024;

export interface SqlReaderOptions {
  readonly applicationName: string;
  /** Drops the connection, at any time. */
  readonly signal?: AbortSignal;
  /** Permission bits of files: SQL does not tell those of each. */
  readonly fileMode: number;
  /** data_checksums of the server. */
  readonly dataChecksums: boolean;
  /** The server that the backup was started on; any other is refused. */
  readonly expected?: ServerIdentity;
}

/** What the reader needs of a connection. */
export type ReaderConnection = Pick<ServerConnection, 'run' | 'destroy'>;

export class SqlReader implements FileReader {
  readonly #connection: ReaderConnection;
  readonly #memory: PageMemory;
  readonly #options: SqlReaderOptions;

  static async open(settings: ConnectionSettings, options: SqlReaderOptions): Promise<SqlReader> {
    const memory = PageMemory.create({ bufferCount: 2, bufferBytes: BUFFER_BYTES });
    const connection = await openSqlSession(settings, {
      applicationName: options.applicationName,
      signal: options.signal,
      receiveBuffer: memory.buffer(0),
    });
    try {
      if (options.expected !== undefined) {
        assertSameServer(options.expected, await identifyOverSql(connection), connection.server);
      }
      return new SqlReader(connection, memory, options);
    } catch (error) {
      connection.destroy();
      throw error;
    }
  }

  /** @param memory two buffers; the connection receives into the first, where it can */
  constructor(connection: ReaderConnection, memory: PageMemory, options: SqlReaderOptions) {
    this.#connection = connection;
    this.#memory = memory;
    this.#options = options;
  }

  async read(
    files: readonly FileToRead[],
    options: ReadOptions,
    receiver: FileReceiver,
  ): Promise<ReadResult> {
    const verifyFrom =
      options.verifyPageChecksums && this.#options.dataChecksums ? options.startLsn : undefined;
    const rows = new FileRows(files, receiver, this.#options.fileMode, (file) =>
      verifyFrom === undefined ? undefined : this.#scanFrom(file, file.range?.offset ?? 0, verifyFrom),
    );
    const reader = new ChunkRowReader(rows, CHUNK_BYTES);
    const statement = readStatement(files.map(rangeToRead), CHUNK_BYTES);
    await this.#connection.run(statement, {
      copy: (piece) => reader.push(piece),
      silenceLimitMs: READ_SILENCE_MS,
    });
    reader.finish();
    rows.finish();
    return verifyFrom === undefined ? NOTHING_FOUND : await this.#recheck(rows.suspects, verifyFrom);
  }

  destroy(): void {
    this.#connection.destroy();
  }

  /** Undefined for a file whose pages have no checksums. */
  #scanFrom(file: FileToRead, fileOffset: number, startLsn: Lsn): PageScan | undefined {
    const segment = checksummedSegment(file.target);
    if (segment === undefined) return undefined;
    return new PageScan(this.#memory, this.#memory.buffer(1), segment, startLsn, fileOffset);
  }

  async #recheck(
    suspects: ReadonlyMap<FileToRead, readonly SuspectPage[]>,
    startLsn: Lsn,
  ): Promise<ReadResult> {
    const warnings: string[] = [];
    let badPageCount = 0;
    for (const [file, pages] of suspects) {
      const verifier = new SegmentVerifier(this.#memory, { segmentNumber: 0 }, startLsn);
      // oxlint-disable-next-line eslint/no-await-in-loop
      await rereadSuspects(this.#connection, {
        path: file.source,
        suspects: pages,
        chunkBytes: CHUNK_BYTES,
        scanFrom: (fileOffset) => this.#scanFrom(file, fileOffset, startLsn),
        onBad: (bad) => verifier.record(bad),
      });
      warnings.push(...verificationWarnings(file.target, verifier.verification));
      badPageCount += verifier.verification.badPageCount;
    }
    return badPageCount === 0 ? NOTHING_FOUND : { hasBadPages: true, badPageCount, warnings };
  }
}

const NOTHING_FOUND: ReadResult = { hasBadPages: false, warnings: [] };

/** A file that fits into one row is read as it is now, whole; a larger one, or a range, as it was listed. */
function isOneRow({ size, range }: FileToRead): boolean {
  return range === undefined && size <= CHUNK_BYTES;
}

function rangeToRead(file: FileToRead): { path: string; offset: number; length: number } {
  const { source: path, size, range } = file;
  if (isOneRow(file)) return { path, offset: 0, length: CHUNK_BYTES };
  return { path, offset: range?.offset ?? 0, length: range?.length ?? size };
}

/** Puts rows together to files. */
class FileRows implements ChunkRowHandler {
  readonly suspects = new Map<FileToRead, readonly SuspectPage[]>();
  readonly #files: readonly FileToRead[];
  readonly #receiver: FileReceiver;
  readonly #fileMode: number;
  readonly #scanOf: (file: FileToRead) => PageScan | undefined;
  #index = -1;
  /** Where in the file the next row begins. */
  #offset = 0;
  /** Bytes of the file in hand that the target expects, still to come. */
  #missing = 0;
  #isOpen = false;
  #scan: PageScan | undefined;
  /** Where in the file the row in hand began, and what it brings less than was asked for. */
  #rowFill = 0;

  constructor(
    files: readonly FileToRead[],
    receiver: FileReceiver,
    fileMode: number,
    scanOf: (file: FileToRead) => PageScan | undefined,
  ) {
    this.#files = files;
    this.#receiver = receiver;
    this.#fileMode = fileMode;
    this.#scanOf = scanOf;
  }

  begin(index: number, offset: number, length: number | undefined): void {
    if (index !== this.#index) this.#beginFile(index, length);
    const expected = this.#expectedBytes();
    if (offset !== this.#offset || (length ?? 0) > expected) {
      throw new ConvoyError('untrusted_peer', 'the server sent rows that were not asked for');
    }
    this.#offset += CHUNK_BYTES;
    if (!this.#isOpen) return;
    this.#rowFill = Math.min(this.#missing, CHUNK_BYTES) - (length ?? 0);
    if (length === undefined) this.end();
  }

  data(chunk: Buffer): Promise<void> | undefined {
    // rows of a file that was gone when its first row was read
    if (!this.#isOpen) return undefined;
    this.#missing -= chunk.length;
    this.#scan?.push(chunk);
    return this.#receiver.data(chunk);
  }

  end(): void {
    if (!this.#isOpen) return;
    this.#fill(this.#rowFill);
    if (this.#missing === 0) this.#endFile();
  }

  finish(): void {
    if (!this.#isOpen) return;
    this.#fill(this.#missing);
    this.#endFile();
  }

  /** The most that the row which begins now may hold. */
  #expectedBytes(): number {
    const file = this.#files[this.#index];
    const { offset, length } = file === undefined ? { offset: 0, length: 0 } : rangeToRead(file);
    return Math.min(CHUNK_BYTES, offset + length - this.#offset);
  }

  #beginFile(index: number, length: number | undefined): void {
    this.finish();
    const file = this.#files[index];
    if (file === undefined || index !== this.#index + 1) {
      throw new ConvoyError('untrusted_peer', 'the server sent rows that were not asked for');
    }
    this.#index = index;
    this.#offset = rangeToRead(file).offset;
    if (length === undefined) return;
    const size = isOneRow(file) ? length : (file.range?.length ?? file.size);
    this.#missing = size;
    this.#isOpen = true;
    this.#scan = this.#scanOf(file);
    this.#receiver.begin(index, { size, mode: this.#fileMode, mtime: file.mtime });
  }

  /** What a file has lost since it was listed is zeros, as in PostgreSQL's sendFile. */
  #fill(bytes: number): void {
    if (bytes > 0) this.#scan?.stop();
    for (let left = bytes; left > 0; left -= Math.min(left, ZEROS.length)) {
      const zeros = ZEROS.subarray(0, Math.min(left, ZEROS.length));
      this.#missing -= zeros.length;
      void this.#receiver.data(zeros);
    }
  }

  #endFile(): void {
    const file = this.#files[this.#index];
    if (file !== undefined && this.#scan !== undefined && this.#scan.suspects.length > 0) {
      this.suspects.set(file, this.#scan.suspects);
    }
    this.#isOpen = false;
    this.#scan = undefined;
    this.#receiver.end();
  }
}

const ZEROS = Buffer.alloc(64 * 1024);
