/*
 * Who may come in: so many sessions, and so many clients that have not logged in yet, which cost nothing but their sockets
 * and take no session's place. Kept by listener.ts. The postmaster, too, has twice as many children as max_connections.
 *
 * Anybody can open sockets and say nothing. When there are too many, the one that has been there longest goes: a client that
 * means it has logged in within milliseconds.
 */

/** Enough for all connections of a large backup at once. */
const MIN_ARRIVING = 64;

export class Admission {
  readonly #maxSessions: number;
  readonly #maxArriving: number;
  /** In the order of their arrival. */
  readonly #arriving = new Set<number>();
  readonly #sessions = new Set<number>();

  constructor(maxSessions: number) {
    this.#maxSessions = maxSessions;
    this.#maxArriving = Math.max(MIN_ARRIVING, maxSessions);
  }

  /** A client has connected. @returns the one that has to go for it */
  arrive(id: number): number | undefined {
    this.#arriving.add(id);
    if (this.#arriving.size <= this.#maxArriving) return undefined;
    const [longest] = this.#arriving;
    if (longest !== undefined) this.#arriving.delete(longest);
    return longest;
  }

  /** A client has logged in. @returns whether there is a place for its session */
  admit(id: number): boolean {
    const isThere = this.#arriving.delete(id);
    if (!isThere || this.#sessions.size >= this.#maxSessions) return false;
    this.#sessions.add(id);
    return true;
  }

  /** A client has gone, at whatever point. */
  leave(id: number): void {
    this.#arriving.delete(id);
    this.#sessions.delete(id);
  }
}
