/* Collects what is wrong with a backup, and ends the verification at the first problem where that is asked for. */
import type { VerifyEvents, VerifyOptions } from './verify-options.js';

/** Thrown after the one problem that was wanted has been told. */
export class FirstProblem extends Error {
  override readonly name = 'FirstProblem';
}

export class Problems {
  readonly #events: VerifyEvents;
  readonly #stopAtFirst: boolean;
  #count = 0;

  constructor(events: VerifyEvents, { stopAtFirst }: VerifyOptions) {
    this.#events = events;
    this.#stopAtFirst = stopAtFirst;
  }

  get count(): number {
    return this.#count;
  }

  /** @throws FirstProblem where no more are wanted */
  report(message: string): void {
    if (this.#stopAtFirst && this.#count > 0) throw new FirstProblem();
    this.#count += 1;
    this.#events.problem(message);
    if (this.#stopAtFirst) throw new FirstProblem();
  }

  reportAll(messages: readonly string[]): void {
    for (const message of messages) this.report(message);
  }
}
