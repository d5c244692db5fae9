/*
 * The content of one file on its way into a tar stream: exactly as many bytes as the header says, though the file may
 * grow or shrink meanwhile. Called by send-backup-files.ts (relations) and wal-files.ts (segments).
 * Source: sendFile of PostgreSQL's src/backend/backup/basebackup.c.
 *
 * Reads are synchronous: from the page cache that costs a quarter less than a way through Node's thread pool. Where the
 * disk has to be waited for, the next reads go through the pool, and other sessions of the process run meanwhile.
 */
import { read, readSync } from 'node:fs';
import { promisify } from 'node:util';
import { fileError } from '../errors.js';
import type { PageMemory } from '../pgdata/page-checksum.js';
import type { SegmentVerifier } from '../pgdata/page-verifier.js';
import type { ClientChannel } from './client-channel.js';
import type { BufferRing } from './page-memory-pool.js';
import type { TarOutput } from './tar-output.js';
import type { TransferRate } from './transfer-rate.js';

const readInPool = promisify(read);

/** A read that took longer was not served from memory. */
const SLOW_READ_MS = 4;
/** So many reads go through the thread pool after a slow one. */
const POOL_READS = 32;

/** Copying so little costs less than keeping a whole buffer busy until it is sent; many small files then go out at once. */
const SMALL_BYTES = 16 * 1024;

export interface ContentSource {
  /** For messages. */
  readonly path: string;
  readonly descriptor: number;
  readonly size: number;
  /** Verifies the pages on the way. */
  readonly verifier?: SegmentVerifier;
  /** Called when a chunk has been read, before it is sent; may refuse it by throwing. */
  readonly onRead?: (() => void) | undefined;
  /** Throws where the file turns out to be shorter, instead of filling it up with zeros. */
  readonly onShort?: (() => never) | undefined;
}

export interface ContentContext {
  readonly channel: ClientChannel;
  readonly signal: AbortSignal;
}

export class FileContent {
  readonly #ring: BufferRing;
  readonly #tar: TarOutput;
  readonly #rate: TransferRate;
  readonly #context: ContentContext;
  #poolReads = 0;

  constructor(ring: BufferRing, tar: TarOutput, rate: TransferRate, context: ContentContext) {
    this.#ring = ring;
    this.#tar = tar;
    this.#rate = rate;
    this.#context = context;
  }

  get memory(): PageMemory {
    return this.#ring.memory;
  }

  /** @throws ConvoyError where the file cannot be read, the client is gone, or with the signal's reason */
  async send(source: ContentSource): Promise<void> {
    const { channel, signal } = this.#context;
    let dataEnd = source.size;
    for (let offset = 0; offset < source.size;) {
      const buffer = await this.#ring.take();
      const chunk = buffer.subarray(0, Math.min(this.#rate.chunkBytes(buffer.length), source.size - offset));
      try {
        const filled = offset >= dataEnd ? 0 : await this.#fill(source, chunk, offset);
        if (filled < chunk.length) {
          source.onShort?.();
          dataEnd = offset + filled;
          chunk.fill(0, filled);
        }
      } catch (error) {
        this.#ring.release(buffer);
        throw fileError('read file', source.path, error);
      }
      this.#write(buffer, chunk);
      offset += chunk.length;
      await this.#rate.spend(chunk.length, signal);
      await channel.paced();
      signal.throwIfAborted();
    }
  }

  /** Reads into the chunk and looks at its pages; the number of bytes that the file has there. */
  async #fill(
    { descriptor, verifier, onRead }: ContentSource,
    chunk: Buffer,
    offset: number,
  ): Promise<number> {
    let filled = 0;
    while (filled < chunk.length) {
      const bytes = await this.#read(descriptor, chunk.subarray(filled), offset + filled);
      if (bytes === 0) break;
      filled += bytes;
    }
    onRead?.();
    if (verifier === undefined || filled === 0) return filled;
    const pages = chunk.subarray(0, filled);
    const suspects = verifier.findSuspects(pages, offset);
    if (suspects.length === 0) return filled;
    return verifier.recheck(pages, offset, suspects, (page, pageOffset) =>
      Promise.resolve(readSync(descriptor, page, 0, page.length, pageOffset)),
    );
  }

  async #read(descriptor: number, target: Buffer, offset: number): Promise<number> {
    if (this.#poolReads > 0) {
      this.#poolReads -= 1;
      const { bytesRead } = await readInPool(descriptor, target, 0, target.length, offset);
      return bytesRead;
    }
    const start = performance.now();
    const bytes = readSync(descriptor, target, 0, target.length, offset);
    if (performance.now() - start > SLOW_READ_MS) this.#poolReads = POOL_READS;
    return bytes;
  }

  #write(buffer: Buffer, chunk: Buffer): void {
    if (chunk.length <= SMALL_BYTES) {
      this.#tar.write(Buffer.from(chunk), () => {});
      this.#ring.release(buffer);
    } else {
      this.#tar.write(chunk, () => this.#ring.release(buffer));
    }
  }
}
