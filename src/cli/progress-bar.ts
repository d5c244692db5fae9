/*
 * A bar on the last line of a terminal, with as many words as its width allows. It is drawn for the width that the
 * terminal has at that moment; what a terminal made narrower has folded into several lines is wiped first.
 */
import type { WriteStream } from 'node:tty';
import { describeProgress, doneShare, shorterProgress, type Progress } from './progress-text.js';

const DEFAULT_COLUMNS = 80;
const MIN_BAR = 10;
const MAX_BAR = 40;
/** Around the bar. */
const BRACKETS = '[] '.length;

const ERASE_DOWN = '\u001B[J';
const UP = (lines: number): string => (lines === 0 ? '' : `\u001B[${lines}A`);

export class ProgressBar {
  readonly #stream: WriteStream;
  /** Columns of what stands there. */
  #drawn = 0;

  constructor(stream: WriteStream) {
    this.#stream = stream;
  }

  draw(progress: Progress): void {
    const line = fittingLine(progress, this.#columns);
    this.#stream.write(this.#wiping() + line);
    this.#drawn = line.length;
  }

  /** Leaves the line to somebody else; the next draw begins anew. */
  clear(): void {
    if (this.#drawn > 0) this.#stream.write(this.#wiping());
    this.#drawn = 0;
  }

  /** What was drawn last stays. */
  end(): void {
    if (this.#drawn > 0) this.#stream.write('\n');
    this.#drawn = 0;
  }

  get #columns(): number {
    return this.#stream.columns || DEFAULT_COLUMNS;
  }

  #wiping(): string {
    const folds = Math.max(0, Math.ceil(this.#drawn / this.#columns) - 1);
    return `${UP(folds)}\r${ERASE_DOWN}`;
  }
}

/** One column stays free: a full line would wrap. */
function fittingLine(progress: Progress, columns: number): string {
  const room = columns - 1;
  const texts = [describeProgress(progress), ...shorterProgress(progress)];
  const text = texts.find((candidate) => candidate.length + BRACKETS + MIN_BAR <= room);
  if (text === undefined) return (texts.at(-1) ?? '').slice(0, Math.max(0, room));
  const size = Math.min(MAX_BAR, room - BRACKETS - text.length);
  const full = Math.round(doneShare(progress) * size);
  return `[${'='.repeat(full)}${' '.repeat(size - full)}] ${text}`;
}
