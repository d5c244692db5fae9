/*
 * Puts the WAL that is streamed into the pg_wal of a backup: segments under their names, marked as archived once they are
 * whole, so that a server started on the backup does not archive them again. None of it is in the manifest.
 * Source: mark_file_as_archived in PostgreSQL's src/bin/pg_basebackup/receivelog.c. Called by the receiver of src/wal.
 */
import type { FileWriter, Target } from '../target/target.js';
import type { WalSink } from '../wal/segment-writer.js';

export interface StreamedWalOptions {
  /** Takes files by their paths in the data directory. */
  readonly target: Target;
  /** Permission bits. */
  readonly fileMode: number;
  readonly segmentBytes: number;
}

export class StreamedWal implements WalSink {
  /** Files that are finished, relative to the data directory. */
  readonly paths: string[] = [];
  /** Of segments, and of history files. */
  walBytes = 0;
  historyBytes = 0;
  readonly #options: StreamedWalOptions;
  #name = '';
  #writer: FileWriter | undefined;

  constructor(options: StreamedWalOptions) {
    this.#options = options;
  }

  beginSegment(name: string): void {
    this.#name = name;
    this.#writer = this.#create(name, this.#options.segmentBytes);
  }

  write(chunk: Uint8Array): Promise<void> | undefined {
    return this.#writer?.write(chunk);
  }

  endSegment(isWhole: boolean): void {
    this.#writer?.finish();
    this.#writer = undefined;
    this.walBytes += this.#options.segmentBytes;
    this.paths.push(walPath(this.#name));
    if (isWhole) this.#markAsArchived(this.#name);
  }

  writeHistory(name: string, content: Buffer): void {
    this.#writeWhole(name, content);
    this.historyBytes += content.length;
    this.#markAsArchived(name);
  }

  abandon(): void {
    this.#writer?.abandon();
    this.#writer = undefined;
  }

  #markAsArchived(name: string): void {
    this.#writeWhole(`archive_status/${name}.done`, Buffer.alloc(0));
  }

  #writeWhole(name: string, content: Buffer): void {
    const writer = this.#create(name, content.length);
    if (content.length > 0) void writer.write(content);
    writer.finish();
    this.paths.push(walPath(name));
  }

  #create(name: string, size: number): FileWriter {
    const { target, fileMode: mode } = this.#options;
    return target.createFile({ path: walPath(name), size, mode, mtime: Math.floor(Date.now() / 1000) });
  }
}

function walPath(name: string): string {
  return `pg_wal/${name}`;
}
