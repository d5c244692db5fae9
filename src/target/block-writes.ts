/*
 * The memory in which a thread gathers what it writes to archives, and its writes that are under way: while a block is on its
 * way to the disk, the next one is filled. Used by gathered-writer.ts.
 */
import { allocatePages } from '../wasm-memory.js';
import type { ArchiveFile } from './archive-file.js';

/**
 * What goes through the page cache. Measured on ext4, the kernel takes a third of the time for such blocks, at multiples
 * of their size, that it takes for pieces of 14 kB, and the copy in the cache costs far less.
 */
const CACHED_BLOCK_BYTES = 256 * 1024;
/** What goes past it: one write at a time changes an ext4 file that has no blocks there yet, so each should bring much. */
const DIRECT_BLOCK_BYTES = 4 * 1024 * 1024;
/** One to fill, and a task's compressed bytes under way. */
const DIRECT_BLOCKS = 4;
/** Less has been copied into the cache before another thread would have taken it over. */
const MIN_ASIDE_BYTES = 64 * 1024;

export class BlockWrites {
  /** What is to be filled: bytes for a place in the archive lie at the place's remainder by the length. */
  #block: Buffer | undefined;
  #free: Buffer[] = [];
  readonly #underWay = new Set<Promise<void>>();
  #failure: unknown;

  /** Before the first byte for an archive: what the first one's file system takes decides which blocks there are. */
  prepare({ isDirect }: ArchiveFile): void {
    if (this.#block !== undefined) return;
    const memory = isDirect ? allocatePages(DIRECT_BLOCKS * DIRECT_BLOCK_BYTES) : undefined;
    this.#free = memory === undefined ? [] : cut(memory, DIRECT_BLOCK_BYTES);
    this.#block = this.#free.pop() ?? Buffer.allocUnsafeSlow(CACHED_BLOCK_BYTES);
  }

  get block(): Buffer {
    if (this.#block === undefined) throw new TypeError('the blocks were not prepared');
    return this.#block;
  }

  /** When there is a block to go on with after this one; undefined: there is one, or needs to be none. Never rejects. */
  get room(): Promise<void> | undefined {
    if (this.#free.length > 0 || this.#underWay.size === 0) return undefined;
    return Promise.race(this.#underWay);
  }

  /**
   * Writes what lies in the block from `start` to `end`; from now on there may be another block.
   *
   * @param place where in the archive it belongs
   * @throws ConvoyError `target_io`, for this or for what was under way
   */
  put(archive: ArchiveFile, start: number, end: number, place: number): void {
    this.#throwIfFailed();
    const { block } = this;
    const bytes = block.subarray(start, end);
    const next = archive.isDirect && bytes.length >= MIN_ASIDE_BYTES ? this.#free.pop() : undefined;
    if (next === undefined) return archive.write(bytes, place);
    this.#block = next;
    this.#follow(archive.writeAside(bytes, place), block);
  }

  /** Waits until nothing is under way. @throws ConvoyError `target_io` */
  async settle(): Promise<void> {
    await Promise.all(this.#underWay);
    this.#throwIfFailed();
  }

  #throwIfFailed(): void {
    if (this.#failure !== undefined) throw this.#failure;
  }

  #follow(written: Promise<void>, block: Buffer): void {
    const step = written
      .catch((error: unknown) => {
        this.#failure ??= error;
      })
      .finally(() => {
        this.#free.push(block);
        this.#underWay.delete(step);
      });
    this.#underWay.add(step);
  }
}

function cut(memory: ArrayBuffer, bytes: number): Buffer[] {
  return Array.from({ length: memory.byteLength / bytes }, (_, index) =>
    Buffer.from(memory, index * bytes, bytes),
  );
}
