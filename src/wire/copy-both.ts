/*
 * The client's half of a COPY in both directions (START_REPLICATION): what it may send while the server sends. Made by
 * command-run.ts when the server has begun one, for whoever asked for it.
 */

/** The parts of pg.Connection that its types do not declare. */
export interface CopySender {
  sendCopyFromChunk(chunk: Buffer): void;
  endCopyFrom(): void;
}

export class CopyBoth {
  readonly #connection: CopySender;
  #hasEnded = false;

  constructor(connection: CopySender) {
    this.#connection = connection;
  }

  /** One CopyData message; nothing once the client has ended its half. */
  send(payload: Buffer): void {
    if (!this.#hasEnded) this.#connection.sendCopyFromChunk(payload);
  }

  /** CopyDone; the server ends its half then. May be called again. */
  end(): void {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    this.#connection.endCopyFrom();
  }
}
