/*
 * One command on its way through a connection: a "submittable" of node-postgres that keeps result sets apart,
 * and takes CopyData in pieces. Made by connection.ts for each command.
 */
import type pg from 'pg';
import { ConvoyError } from '../errors.js';
import { MAX_COLLECTED_ROWS, MAX_RESULT_SETS } from '../limits.js';
import { CopyBoth, type CopySender } from './copy-both.js';

export interface ResultSet {
  readonly columns: readonly string[];
  readonly rows: (string | null)[][];
}

/** What happens with the parts of an answer that are too large to be collected. */
export interface CommandReaction {
  /** Give the connection up when nothing has come for so long; undefined: it may take its time. */
  readonly silenceLimitMs?: number;
  /** Takes each row; rows are then not collected. `setIndex` counts the RowDescriptions. */
  readonly row?: (setIndex: number, row: (string | null)[]) => void;
  /**
   * Takes each piece of CopyData, in the order received. The piece is borrowed: its bytes are only valid until
   * the call returns. A returned promise stops reading from the socket until it is settled.
   *
   * @param isLast it ends a CopyData message
   */
  readonly copy?: (piece: Buffer, isLast: boolean) => Promise<void> | undefined;
  /** Takes the client's half of a COPY in both directions, once it has begun; undefined: the command is none. */
  readonly both?: (copy: CopyBoth) => void;
}

interface RowDescriptionMessage {
  readonly fields: readonly { readonly name: string }[];
}

interface DataRowMessage {
  readonly fields: (string | null)[];
}

export class CommandRun implements pg.Submittable {
  readonly results: Promise<ResultSet[]>;
  readonly #text: string;
  readonly #reaction: CommandReaction;
  readonly #describeError: (error: unknown) => ConvoyError;
  readonly #sets: ResultSet[] = [];
  #sender: CopySender | undefined;
  #both: CopyBoth | undefined;
  #settled = false;
  #failure: ConvoyError | undefined;
  #resolve: (sets: ResultSet[]) => void = () => {};
  #reject: (error: ConvoyError) => void = () => {};

  constructor(text: string, reaction: CommandReaction, describeError: (error: unknown) => ConvoyError) {
    this.#text = text;
    this.#reaction = reaction;
    this.#describeError = describeError;
    this.results = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
  }

  get settled(): boolean {
    return this.#settled;
  }

  /** Called by node-postgres when the connection is free. */
  submit(connection: pg.Connection): void {
    this.#sender = connection as pg.Connection & CopySender;
    connection.query(this.#text);
  }

  /** @throws ConvoyError where no copy was asked for, or whatever the taker throws */
  copyPiece(piece: Buffer, isLast: boolean): Promise<void> | undefined {
    if (this.#reaction.copy === undefined) {
      throw new ConvoyError('untrusted_peer', 'the server sent copy data that nobody asked for');
    }
    return this.#reaction.copy(piece, isLast);
  }

  /** A CopyBothResponse. @throws ConvoyError where none was asked for, or a second one comes */
  beginBoth(): void {
    const { both } = this.#reaction;
    if (both === undefined || this.#both !== undefined || this.#sender === undefined || this.#settled) {
      throw new ConvoyError('untrusted_peer', 'the server began a copy that nobody asked for');
    }
    this.#both = new CopyBoth(this.#sender);
    both(this.#both);
  }

  /** A CopyDone: a COPY in both directions ends when both have sent theirs. */
  endBoth(): void {
    this.#both?.end();
  }

  handleRowDescription(message: RowDescriptionMessage): void {
    if (this.#sets.length >= MAX_RESULT_SETS) throw endlessAnswer();
    this.#sets.push({ columns: message.fields.map((field) => field.name), rows: [] });
  }

  handleDataRow(message: DataRowMessage): void {
    const set = this.#sets.at(-1);
    if (set === undefined || this.#failure !== undefined) return;
    try {
      if (this.#reaction.row === undefined) this.#collect(set, message.fields);
      else this.#reaction.row(this.#sets.length - 1, message.fields);
    } catch (error) {
      this.#failure = this.#describeError(error);
      // who cannot be trusted may go on without end; any other answer is read to its end, and the connection stays usable
      if (this.#failure.code === 'untrusted_peer') throw this.#failure;
    }
  }

  #collect(set: ResultSet, row: (string | null)[]): void {
    if (set.rows.length >= MAX_COLLECTED_ROWS) throw endlessAnswer();
    set.rows.push(row);
  }

  handleCommandComplete(): void {}

  handleEmptyQuery(): void {}

  handlePortalSuspended(): void {}

  handleCopyInResponse(connection: pg.Connection & { sendCopyFail?: (reason: string) => void }): void {
    connection.sendCopyFail?.('no copy data is sent here');
  }

  handleReadyForQuery(): void {
    if (this.#settled) return;
    this.#settled = true;
    if (this.#failure === undefined) this.#resolve(this.#sets);
    else this.#reject(this.#failure);
  }

  /** An ErrorResponse, or the end of the connection. */
  handleError(error: Error): void {
    if (this.#settled) return;
    this.#settled = true;
    this.#reject(this.#describeError(error));
  }
}

export function endlessAnswer(): ConvoyError {
  return new ConvoyError('untrusted_peer', "the server's answer has no end");
}
