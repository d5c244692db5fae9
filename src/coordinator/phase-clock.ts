/* How long each phase of a backup takes. Held by backup-run.ts; its figures are for the report. */
import type { BackupPhase } from './backup-options.js';
import type { PhaseFigures } from './backup-report.js';

export class PhaseClock {
  readonly #seconds = new Map<BackupPhase, number>();
  readonly #onPhase: (phase: BackupPhase) => void;
  readonly #now: () => number;

  /** @param now monotonic milliseconds */
  constructor(onPhase: (phase: BackupPhase) => void, now: () => number = () => performance.now()) {
    this.#onPhase = onPhase;
    this.#now = now;
  }

  /** Runs `work` as a phase; phases follow one another. */
  async time<Result>(phase: BackupPhase, work: () => Promise<Result>): Promise<Result> {
    this.#onPhase(phase);
    const begin = this.#now();
    try {
      return await work();
    } finally {
      this.#seconds.set(phase, (this.#now() - begin) / 1000);
    }
  }

  /** In the order in which they were begun; @param bytes moved in some of them */
  figures(bytes: Partial<Readonly<Record<BackupPhase, number>>>): PhaseFigures[] {
    return [...this.#seconds].map(([phase, seconds]) => {
      const moved = bytes[phase];
      return moved === undefined ? { phase, seconds } : { phase, seconds, bytes: moved };
    });
  }
}
