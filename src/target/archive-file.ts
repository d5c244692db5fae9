/*
 * An archive that several threads fill, as one of them has it open: bytes go to their places through the kernel's page
 * cache or, where the file system is one on which that pays, past it.
 */
import { closeSync, constants, openSync, statfsSync, write } from 'node:fs';
import { constants as systemConstants } from 'node:os';
import path from 'node:path';
import { getSystemErrorName, promisify } from 'node:util';
import { ConvoyError, fileError, isSystemError } from '../errors.js';
import type { ArchiveState } from './archive-state.js';
import { writeWhole } from './held-pieces.js';

const OPEN_FLAGS = constants.O_WRONLY | constants.O_NOFOLLOW;
/** Less is written before another thread could be woken. */
const ALONE_BYTES = 64 * 1024;
/**
 * File systems of local disks that take O_DIRECT as it is meant (statfs(2)): ext4 and xfs. Elsewhere it is refused (tmpfs), or
 * waits for another machine with every write (nfs), or has conditions of its own (btrfs, zfs).
 */
const DIRECT_TYPES: ReadonlySet<number> = new Set([0xef53, 0x58465342]);

/**
 * Place and length of a direct write are multiples of this, which the blocks of file systems and disks and the pages of
 * machines divide: no page that the cache holds has a share in it.
 */
const DIRECT_UNIT_BYTES = 64 * 1024;

const NO_FILE = -1;

const writeLater = promisify(write);

export class ArchiveFile {
  readonly #path: string;
  readonly #state: ArchiveState;
  readonly #archive: number;
  /** NO_FILE once it is closed. */
  #descriptor: number;
  /** Undefined where nothing is to go past the page cache. */
  #direct: number | undefined;
  /** Calls of writeAside() that have not ended. */
  #underWay = 0;
  #isClosed = false;

  /**
   * @param file absolute; it is there
   * @param state where threads take turns, for its `archive`
   * @throws ConvoyError `target_io`
   */
  constructor(file: string, state: ArchiveState, archive: number) {
    this.#path = file;
    this.#state = state;
    this.#archive = archive;
    try {
      this.#direct = openDirect(file);
      this.#descriptor = openSync(file, OPEN_FLAGS);
    } catch (error) {
      if (this.#direct !== undefined) closeSync(this.#direct);
      throw fileError('open file', file, error);
    }
  }

  /** There is a way past the page cache. */
  get isDirect(): boolean {
    return this.#direct !== undefined;
  }

  /** @throws ConvoyError `target_io` */
  write(bytes: Uint8Array, place: number): void {
    const descriptor = this.#descriptor;
    try {
      if (bytes.length < ALONE_BYTES) writeWhole(descriptor, bytes, place);
      else this.#state.writeAlone(this.#archive, () => writeWhole(descriptor, bytes, place));
    } catch (error) {
      throw fileError('write file', this.#path, error);
    }
  }

  /**
   * Writes while the thread goes on, past the page cache: the processor copies nothing, and the cache keeps what others have use
   * for. Only what shares a unit with other members goes through it.
   *
   * @param bytes borrowed until it has settled; their address leaves the same remainder as `place` by the machine's page, or the cache takes them
   * @throws ConvoyError `target_io`
   */
  async writeAside(bytes: Uint8Array, place: number): Promise<void> {
    const end = place + bytes.length;
    const first = Math.min(Math.ceil(place / DIRECT_UNIT_BYTES) * DIRECT_UNIT_BYTES, end) - place;
    const last = Math.max(Math.floor(end / DIRECT_UNIT_BYTES) * DIRECT_UNIT_BYTES - place, first);
    this.#underWay += 1;
    this.#state.beginAside(this.#archive);
    const outcomes = await Promise.allSettled([
      this.#writeCached(bytes.subarray(0, first), place),
      this.#writeDirect(bytes.subarray(first, last), place + first),
      this.#writeCached(bytes.subarray(last), place + last),
    ]);
    const failed = outcomes.find((outcome) => outcome.status === 'rejected');
    this.#state.endAside(this.#archive, failed === undefined ? 0 : errorNumber(failed.reason));
    this.#underWay -= 1;
    this.#closeIfDone();
    if (failed !== undefined) throw fileError('write file', this.#path, failed.reason);
  }

  /** Waits until all is written that any thread has under way. @throws ConvoyError `target_io`, whosever it was */
  async settle(): Promise<void> {
    const failure = await this.#state.settled(this.#archive, () => this.#isClosed);
    if (this.#isClosed) throw new ConvoyError('cancelled', 'the archive was given up');
    if (failure === 0) return;
    const code = getSystemErrorName(-failure);
    throw fileError('write file', this.#path, Object.assign(new Error(code), { code }));
  }

  /** Once what is under way has ended. */
  close(): void {
    this.#isClosed = true;
    this.#closeIfDone();
  }

  async #writeDirect(bytes: Uint8Array, place: number): Promise<void> {
    if (bytes.length === 0) return;
    let written = 0;
    try {
      written = (await writeLater(this.#direct ?? NO_FILE, bytes, 0, bytes.length, place)).bytesWritten;
    } catch (error) {
      // a disk whose blocks are larger
      if (!isSystemError(error, 'EINVAL')) throw error;
    }
    // a disk that is full says so when it is asked again
    await this.#writeCached(bytes.subarray(written), place + written);
  }

  async #writeCached(bytes: Uint8Array, place: number): Promise<void> {
    for (let written = 0; written < bytes.length;) {
      const left = bytes.length - written;
      // oxlint-disable-next-line eslint/no-await-in-loop
      written += (await writeLater(this.#descriptor, bytes, written, left, place + written)).bytesWritten;
    }
  }

  #closeIfDone(): void {
    if (!this.#isClosed || this.#underWay > 0 || this.#descriptor === NO_FILE) return;
    closeSync(this.#descriptor);
    if (this.#direct !== undefined) closeSync(this.#direct);
    this.#descriptor = NO_FILE;
    this.#direct = undefined;
  }
}

function openDirect(file: string): number | undefined {
  if (!DIRECT_TYPES.has(statfsSync(path.dirname(file)).type)) return undefined;
  try {
    return openSync(file, OPEN_FLAGS | constants.O_DIRECT);
  } catch (error) {
    if (isSystemError(error, 'EINVAL')) return undefined;
    throw error;
  }
}

/** The system's number of an error: positive. */
function errorNumber(error: unknown): number {
  const { errno } = error as NodeJS.ErrnoException;
  return errno === undefined ? systemConstants.errno.EIO : -errno;
}
