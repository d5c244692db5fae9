/*
 * pg_wal.tar: the WAL that was streamed beside the archives of a backup, one file after the other, named relative to pg_wal.
 * Made by the coordinator, which writes it alone. As with pg_basebackup, only gzip compresses it.
 * Source: the tar method in PostgreSQL's src/bin/pg_basebackup/walmethods.c.
 */
import { archiveSuffix } from './archive-layout.js';
import { NO_COMPRESSION } from './compression/compression.js';
import { TarFileWriter } from './tar-file-writer.js';
import type { ArchiveTargetSpec, FileWriter, Target, TargetFile } from './target.js';

const WAL_DIRECTORY = 'pg_wal/';
/** As tar_open_for_write has it, whatever the mode of the server's files. */
const MEMBER_MODE = 0o600;

export class WalArchive implements Target {
  /** Absolute. */
  readonly path: string;
  readonly #writer: TarFileWriter;

  /** @param mode permission bits of the archive. @throws ConvoyError `target_io` */
  constructor({ directory, compression: wanted }: ArchiveTargetSpec, mode: number) {
    const compression = wanted.method === 'gzip' ? wanted : NO_COMPRESSION;
    this.path = `${directory}/pg_wal.tar${archiveSuffix(compression)}`;
    this.#writer = new TarFileWriter({ path: this.path, mode, compression });
  }

  createFile({ path, size, mtime }: TargetFile): FileWriter {
    const name = path.slice(WAL_DIRECTORY.length);
    this.#writer.begin({ name, type: 'file', size, mode: MEMBER_MODE, mtime });
    return {
      size,
      write: (chunk) => this.#writer.write(chunk),
      finish: () => this.#writer.end(),
      // the backup has failed, and the archive goes with it
      abandon: () => {},
    };
  }

  commit(): Promise<[]> {
    return Promise.resolve([]);
  }

  rollback(): Promise<boolean> {
    return Promise.resolve(false);
  }

  /** The archive is complete. @throws ConvoyError `target_io` */
  async end(): Promise<void> {
    await this.#writer.finish(false);
  }

  close(): void {
    this.#writer.close();
  }
}
