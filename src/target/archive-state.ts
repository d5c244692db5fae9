/*
 * What the threads that fill archives share: where each archive ends, which place a file has, who may write to standard
 * output, and whose turn it is to write much to an archive. Reserving a place is one atomic addition.
 */
import { setTimeout as delay } from 'node:timers/promises';

/** A file's place in an archive. */
export interface MemberClaim {
  /** Where its header begins. */
  readonly place: number;
  /** Bytes of its content, for good. */
  readonly size: number;
  /** It was made just now: the header is still to be written. */
  readonly isNew: boolean;
}

/** Of the lock. */
const FREE = 0;
const TAKEN = 1;

/** Of a slot, where no place is: places are stored one higher. */
const UNCLAIMED = 0n;
const BEING_CLAIMED = -1n;
/** Of a slot of a streamed archive. */
const BEGUN = 1n;

/**
 * Words: the lock, and whose turn it is; then for each archive where it ends, whether somebody writes, how many writes are
 * under way aside, and the number of the error that the first of them which failed has met.
 */
const TURN = 1;
const WORDS_BEFORE_ARCHIVES = 2;
const WORDS_OF_AN_ARCHIVE = 4;
const WRITING = 1;
const UNDER_WAY = 2;
const FAILURE = 3;
const WORDS_OF_A_SLOT = 2;
/** Of the word that says whether somebody writes to an archive. */
const NOBODY = 0n;
const SOMEBODY = 1n;
/** Longer than a write takes, but where a thread died in it or the disk is at its limit: then waiting is worth nothing. */
const WRITING_LIMIT_MS = 1000;
const SETTLE_POLL_MS = 5;
/** A claim is a few instructions long; this only keeps a thread that died in it from stopping others. */
const CLAIM_LIMIT_MS = 1000;

/** @param slots files that keep their place from one try to the next */
export function createArchiveState(archives: number, slots: number): SharedArrayBuffer {
  const words = WORDS_BEFORE_ARCHIVES + archives * WORDS_OF_AN_ARCHIVE + slots * WORDS_OF_A_SLOT;
  return new SharedArrayBuffer(words * BigInt64Array.BYTES_PER_ELEMENT);
}

export class ArchiveState {
  readonly #lock: Int32Array;
  readonly #words: BigInt64Array;
  readonly #archives: number;

  constructor(memory: SharedArrayBuffer, archives: number) {
    this.#lock = new Int32Array(memory, 0, 1);
    this.#words = new BigInt64Array(memory);
    this.#archives = archives;
  }

  /** Takes room at the end of an archive. @returns where it begins */
  reserve(archive: number, bytes: number): number {
    return Number(Atomics.add(this.#words, wordOfArchive(archive), BigInt(bytes)));
  }

  /** Bytes of the archive so far. */
  end(archive: number): number {
    return Number(Atomics.load(this.#words, wordOfArchive(archive)));
  }

  /**
   * Writes to an archive while no other thread does. Correct without it: the kernel lets one write at a time, but whoever
   * waits there keeps a processor busy, which the server may need; here the thread sleeps.
   *
   * @param write takes its time, but waits for nobody
   */
  writeAlone(archive: number, write: () => void): void {
    const at = wordOfArchive(archive) + WRITING;
    while (Atomics.compareExchange(this.#words, at, NOBODY, SOMEBODY) !== NOBODY) {
      if (Atomics.wait(this.#words, at, SOMEBODY, WRITING_LIMIT_MS) === 'timed-out') break;
    }
    try {
      write();
    } finally {
      Atomics.store(this.#words, at, NOBODY);
      Atomics.notify(this.#words, at, 1);
    }
  }

  /** A write to the archive is under way, while its thread goes on. */
  beginAside(archive: number): void {
    Atomics.add(this.#words, wordOfArchive(archive) + UNDER_WAY, 1n);
  }

  /** @param failure the system's number of what went wrong (errno); 0: nothing */
  endAside(archive: number, failure: number): void {
    const at = wordOfArchive(archive);
    if (failure !== 0) Atomics.compareExchange(this.#words, at + FAILURE, 0n, BigInt(failure));
    Atomics.sub(this.#words, at + UNDER_WAY, 1n);
  }

  /**
   * Waits until no thread has a write to the archive under way. With timers, which keep the process: it may have nothing else
   * to wait for.
   *
   * @param isGivenUp nobody wants the archive any more; the thread that wrote may be gone
   * @returns what went wrong first, as in endAside()
   */
  async settled(archive: number, isGivenUp: () => boolean = () => false): Promise<number> {
    const at = wordOfArchive(archive);
    while (Atomics.load(this.#words, at + UNDER_WAY) > 0n && !isGivenUp()) {
      // oxlint-disable-next-line eslint/no-await-in-loop
      await delay(SETTLE_POLL_MS);
    }
    return Number(Atomics.load(this.#words, at + FAILURE));
  }

  /**
   * The place of a file that may be written by several threads, and several times: whoever comes first makes it.
   *
   * @param size bytes of the content
   * @param overhead bytes of the member besides
   */
  claim(slot: number, archive: number, size: number, overhead: number): MemberClaim {
    const at = this.#wordOf(slot);
    const seen = Atomics.compareExchange(this.#words, at, UNCLAIMED, BEING_CLAIMED);
    if (seen === UNCLAIMED) {
      const place = this.reserve(archive, size + overhead);
      Atomics.store(this.#words, at + 1, BigInt(size));
      Atomics.store(this.#words, at, BigInt(place) + 1n);
      Atomics.notify(this.#words, at);
      return { place, size, isNew: true };
    }
    if (seen === BEING_CLAIMED) Atomics.wait(this.#words, at, BEING_CLAIMED, CLAIM_LIMIT_MS);
    const claimed = this.find(slot);
    if (claimed === undefined) throw new Error('a thread ended while it reserved room in an archive');
    return claimed;
  }

  /** The place that a file has got. */
  find(slot: number): MemberClaim | undefined {
    const at = this.#wordOf(slot);
    const word = Atomics.load(this.#words, at);
    if (word <= UNCLAIMED) return undefined;
    return { place: Number(word - 1n), size: Number(Atomics.load(this.#words, at + 1)), isNew: false };
  }

  /** Waits until all tasks with earlier turns are done. */
  async awaitTurn(turn: number): Promise<void> {
    for (;;) {
      const current = Atomics.load(this.#words, TURN);
      if (current === BigInt(turn)) return;
      // oxlint-disable-next-line eslint/no-await-in-loop
      await Atomics.waitAsync(this.#words, TURN, current).value;
    }
  }

  /** The task whose turn it is is done. */
  passTurn(): void {
    Atomics.add(this.#words, TURN, 1n);
    Atomics.notify(this.#words, TURN);
  }

  /** A file has begun, in an archive where its parts follow each other. */
  markBegun(slot: number): void {
    Atomics.store(this.#words, this.#wordOf(slot), BEGUN);
  }

  hasBegun(slot: number): boolean {
    return Atomics.load(this.#words, this.#wordOf(slot)) === BEGUN;
  }

  /** Waits until nobody else has the lock, and takes it. */
  async lock(): Promise<void> {
    while (Atomics.compareExchange(this.#lock, 0, FREE, TAKEN) !== FREE) {
      // the event loop goes on: a thread that waits can be asked to end
      const { value } = Atomics.waitAsync(this.#lock, 0, TAKEN);
      // oxlint-disable-next-line eslint/no-await-in-loop
      await value;
    }
  }

  unlock(): void {
    Atomics.store(this.#lock, 0, FREE);
    Atomics.notify(this.#lock, 0, 1);
  }

  #wordOf(slot: number): number {
    return wordOfArchive(this.#archives) + slot * WORDS_OF_A_SLOT;
  }
}

function wordOfArchive(archive: number): number {
  return WORDS_BEFORE_ARCHIVES + archive * WORDS_OF_AN_ARCHIVE;
}
