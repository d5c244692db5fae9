/*
 * The bytes that one task adds to one archive: gathered to blocks, compressed, and handed to the outlet in order. What
 * compresses in other threads runs ahead by a few blocks, never more. Used by streamed-archive-writer.ts and
 * tar-file-writer.ts.
 */
import { crc32 } from '../crc32.js';
import { BLOCK_BYTES, type BlockCompressor, type Pieces } from './compression/block-compressor.js';

/** Blocks that are being compressed, or wait for the outlet. */
const MAX_IN_FLIGHT = 4;

/** Where compressed pieces go; they stay together until they are committed. */
export interface PieceOutlet {
  /**
   * @param pieces borrowed until it returns, or what it returns has settled
   * @returns a promise where it must wait
   * @throws ConvoyError `target_io`
   */
  put(pieces: readonly Buffer[]): Promise<void> | undefined;
  /**
   * All pieces since the last commit are complete. They may still be under way when this settles.
   *
   * @returns where they lie
   * @throws ConvoyError `target_io`
   */
  commit(): Promise<number>;
  /** Waits until all that any thread has committed is where it belongs. @throws ConvoyError `target_io` */
  settle(): Promise<void>;
  /** Drops the pieces since the last commit. @returns false where they have left already */
  rollback(): boolean;
  close(): void;
}

/** What was committed. */
export interface CommittedBytes {
  readonly place: number;
  readonly rawBytes: number;
  /** CRC-32, where the compressor needs it; else 0. */
  readonly rawCrc: number;
}

export class ArchiveStream {
  readonly #compressor: BlockCompressor;
  readonly #outlet: PieceOutlet;
  /** What is gathered, and how much of it there is. */
  #block: Buffer | undefined;
  #held = 0;
  #rawBytes = 0;
  #rawCrc = 0;
  #inFlight = 0;
  /** Settles when all that is in flight has reached the outlet; never rejects. */
  #arrived: Promise<void> = Promise.resolve();
  #failure: unknown;

  constructor(compressor: BlockCompressor, outlet: PieceOutlet) {
    this.#compressor = compressor;
    this.#outlet = outlet;
  }

  /**
   * @param bytes borrowed
   * @returns a promise where the caller is to wait; it never rejects
   * @throws what went wrong since the last call
   */
  write(bytes: Uint8Array): Promise<void> | undefined {
    this.#throwIfFailed();
    for (let taken = 0; taken < bytes.length;) {
      const part = bytes.subarray(taken, taken + BLOCK_BYTES - this.#held);
      this.#block ??= this.#compressor.blocks.take();
      this.#block.set(part, this.#held);
      this.#held += part.length;
      taken += part.length;
      if (this.#held === BLOCK_BYTES) this.#emit();
    }
    return this.#inFlight < MAX_IN_FLIGHT ? undefined : this.#arrived;
  }

  /** @returns undefined where nothing was written since the last commit */
  async commit(): Promise<CommittedBytes | undefined> {
    this.#throwIfFailed();
    this.#emit();
    await this.#arrived;
    this.#throwIfFailed();
    if (this.#rawBytes === 0) return undefined;
    const place = await this.#outlet.commit();
    const committed = { place, rawBytes: this.#rawBytes, rawCrc: this.#rawCrc };
    this.#reset();
    return committed;
  }

  /** @returns false where something has left already */
  async rollback(): Promise<boolean> {
    await this.#arrived;
    this.#reset();
    return this.#outlet.rollback();
  }

  /** A piece that is not compressed, and counts for no CRC: what the archive begins and ends with. */
  async putRaw(piece: Buffer): Promise<void> {
    if (piece.length === 0) return;
    await this.#outlet.put([piece]);
    await this.#outlet.commit();
  }

  /** Waits until all that any thread has committed to the archive is written. @throws ConvoyError `target_io` */
  async settle(): Promise<void> {
    await this.#outlet.settle();
  }

  close(): void {
    this.#outlet.close();
  }

  #emit(): void {
    const block = this.#block;
    if (block === undefined) return;
    const content = block.subarray(0, this.#held);
    this.#block = undefined;
    this.#held = 0;
    this.#rawBytes += content.length;
    if (this.#compressor.needsCrc) this.#rawCrc = crc32(content, this.#rawCrc);
    const pieces = this.#compressor.compress(content);
    if (this.#inFlight > 0 || pieces instanceof Promise) {
      this.#track(this.#givenBack(this.#putInTurn(this.#arrived, pieces), block));
      return;
    }
    const room = this.#outlet.put(pieces);
    if (room === undefined) this.#compressor.blocks.giveBack(block);
    else this.#track(this.#givenBack(room, block));
  }

  async #putInTurn(before: Promise<void>, pieces: Pieces | Promise<Pieces>): Promise<void> {
    try {
      await pieces;
    } finally {
      await before;
    }
    if (this.#failure === undefined) await this.#outlet.put(await pieces);
  }

  async #givenBack(step: Promise<void>, block: Buffer): Promise<void> {
    await step;
    this.#compressor.blocks.giveBack(block);
  }

  #track(step: Promise<void>): void {
    this.#inFlight += 1;
    this.#arrived = step
      .catch((error: unknown) => {
        this.#failure ??= error;
      })
      .finally(() => {
        this.#inFlight -= 1;
      });
  }

  #reset(): void {
    if (this.#block !== undefined) this.#compressor.blocks.giveBack(this.#block);
    this.#block = undefined;
    this.#held = 0;
    this.#rawBytes = 0;
    this.#rawCrc = 0;
    this.#failure = undefined;
  }

  #throwIfFailed(): void {
    if (this.#failure !== undefined) throw this.#failure;
  }
}
