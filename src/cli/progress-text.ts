/* How far a backup is, in words: bytes, total, rate, time left and files. For the bar and the lines of -P. */

export interface Count {
  readonly bytes: number;
  readonly files: number;
}

export interface Progress {
  readonly done: Count;
  readonly total: Count;
  readonly bytesPerSecond: number;
}

/** The rate is that of the last seconds, not of the whole: it shows a link that has slowed down. */
const RATE_SAMPLES = 10;

/** Bytes a second over the last samples. */
export class RecentRate {
  readonly #samples: { bytes: number; atMs: number }[] = [];

  sample(bytes: number, atMs: number): number {
    this.#samples.push({ bytes, atMs });
    if (this.#samples.length > RATE_SAMPLES) this.#samples.shift();
    const first = this.#samples[0] ?? { bytes, atMs };
    const seconds = (atMs - first.atMs) / 1000;
    return seconds === 0 ? 0 : Math.max(0, (bytes - first.bytes) / seconds);
  }
}

/** `1234/56789 kB (2%), 345 MB/s, 0:12 left, 17/890 files`. */
export function describeProgress(progress: Progress): string {
  const { amount, rate, left, files } = progressWords(progress);
  return `${amount}, ${rate}, ${left}, ${files}`;
}

/** The same in fewer and fewer words, for lines that are too short. */
export function shorterProgress(progress: Progress): string[] {
  const { amount, rate, left, percent } = progressWords(progress);
  return [`${amount}, ${rate}, ${left}`, `${amount}, ${left}`, amount, percent];
}

/** 0 to 1. A file that grew may take the copy past the estimate. */
export function doneShare({ done, total }: Progress): number {
  const totalBytes = Math.max(total.bytes, done.bytes);
  return totalBytes === 0 ? 1 : done.bytes / totalBytes;
}

function progressWords(progress: Progress) {
  const { done, total, bytesPerSecond } = progress;
  const kilobytes = (bytes: number): number => Math.floor(bytes / 1024);
  const totalBytes = Math.max(total.bytes, done.bytes);
  const percent = `${Math.floor(doneShare(progress) * 100)}%`;
  const left = bytesPerSecond === 0 ? '?' : formatSeconds((totalBytes - done.bytes) / bytesPerSecond);
  const rate = (bytesPerSecond / 1024 / 1024).toFixed(bytesPerSecond < 10 * 1024 * 1024 ? 1 : 0);
  return {
    percent,
    amount: `${kilobytes(done.bytes)}/${kilobytes(totalBytes)} kB (${percent})`,
    rate: `${rate} MB/s`,
    left: `${left} left`,
    files: `${done.files}/${total.files} files`,
  };
}

function formatSeconds(seconds: number): string {
  const whole = Math.ceil(seconds);
  const minutes = Math.floor(whole / 60);
  const rest = String(whole % 60).padStart(2, '0');
  if (minutes < 60) return `${minutes}:${rest}`;
  return `${Math.floor(minutes / 60)}:${String(minutes % 60).padStart(2, '0')}:${rest}`;
}
