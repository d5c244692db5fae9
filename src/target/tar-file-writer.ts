/*
 * A tar archive that one thread writes from its start to its end, compressed as asked: pg_wal.tar. (Archives that several
 * threads fill are archive-target.ts's.)
 */
import { closeSync, fchmodSync, fsyncSync, openSync } from 'node:fs';
import { fileError } from '../errors.js';
import { encodeTarHeader, TAR_END, tarPadding, type TarMember } from '../tar/tar-encoding.js';
import { ArchiveStream, type PieceOutlet } from './archive-stream.js';
import type { BlockCompressor } from './compression/block-compressor.js';
import type { Compression } from './compression/compression.js';
import { openCompressor } from './compression/open-compressor.js';
import { writeWhole } from './held-pieces.js';

export interface TarFileOptions {
  /** Absolute; nothing is there yet. */
  readonly path: string;
  /** Permission bits. */
  readonly mode: number;
  readonly compression: Compression;
}

/** Calls in the order (begin, write*, end)* and finish; close at any time. */
export class TarFileWriter {
  readonly #compressor: BlockCompressor;
  readonly #file: OnlyFile;
  readonly #stream: ArchiveStream;
  /** Bytes that the member in hand still takes. */
  #missing = 0;
  #padding = 0;

  /** @throws ConvoyError `target_io`, `target_refused` where the method of compression is not at hand */
  constructor({ path, mode, compression }: TarFileOptions) {
    this.#compressor = openCompressor(compression);
    this.#file = new OnlyFile(path, mode);
    this.#file.put([this.#compressor.head]);
    this.#stream = new ArchiveStream(this.#compressor, this.#file);
  }

  /** @throws ConvoyError `target_io` */
  begin(member: TarMember): void {
    if (this.#missing > 0) throw new TypeError('a member of a tar archive is not complete');
    this.#missing = member.size;
    this.#padding = tarPadding(member.size);
    void this.#stream.write(encodeTarHeader(member));
  }

  /**
   * @param chunk borrowed until it returns; never more than the member has room for
   * @returns a promise where the caller should wait; it never rejects, what went wrong is thrown by the next call
   * @throws ConvoyError `target_io`
   */
  write(chunk: Uint8Array): Promise<void> | undefined {
    if (chunk.length > this.#missing) throw new TypeError('a member of a tar archive is too long');
    this.#missing -= chunk.length;
    return this.#stream.write(chunk);
  }

  /** The member has all its bytes. @throws ConvoyError `target_io` */
  end(): void {
    if (this.#missing > 0) throw new TypeError('a member of a tar archive is too short');
    void this.#stream.write(Buffer.alloc(this.#padding));
    this.#padding = 0;
  }

  /** Ends the archive. @param sync also makes it durable. @throws ConvoyError `target_io` */
  async finish(sync: boolean): Promise<void> {
    void this.#stream.write(TAR_END);
    const { rawBytes, rawCrc } = (await this.#stream.commit()) ?? { rawBytes: 0, rawCrc: 0 };
    this.#file.put([this.#compressor.tail(rawBytes, rawCrc)]);
    if (sync) this.#file.sync();
    this.close();
  }

  /** Gives back what is open; the file stays as it is. */
  close(): void {
    this.#stream.close();
  }
}

/** A file that nobody else writes: pieces go to its end at once. */
class OnlyFile implements PieceOutlet {
  readonly #path: string;
  #descriptor: number | undefined;
  #bytes = 0;

  constructor(path: string, mode: number) {
    this.#path = path;
    this.#attempt('create file', () => {
      this.#descriptor = openSync(path, 'wx', mode);
      // the umask is for the owner alone; where the group may read the cluster, it may read this
      fchmodSync(this.#descriptor, mode);
    });
  }

  put(pieces: readonly Buffer[]): undefined {
    for (const piece of pieces) {
      this.#attempt('write file', () => writeWhole(this.#descriptor ?? -1, piece, this.#bytes));
      this.#bytes += piece.length;
    }
  }

  commit(): Promise<number> {
    return Promise.resolve(0);
  }

  settle(): Promise<void> {
    return Promise.resolve();
  }

  rollback(): boolean {
    return false;
  }

  sync(): void {
    this.#attempt('fsync file', () => fsyncSync(this.#descriptor ?? -1));
  }

  close(): void {
    if (this.#descriptor !== undefined) closeSync(this.#descriptor);
    this.#descriptor = undefined;
  }

  #attempt(action: string, step: () => void): void {
    try {
      step();
    } catch (error) {
      throw fileError(action, this.#path, error);
    }
  }
}
