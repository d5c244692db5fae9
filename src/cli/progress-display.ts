/*
 * What -P shows while files are copied: a bar on a terminal, one line a second elsewhere. Bytes, total, rate, time
 * left and files.
 */
import type { WriteStream } from 'node:tty';
import cliProgress from 'cli-progress';

interface Count {
  readonly bytes: number;
  readonly files: number;
}

export interface ProgressDisplay {
  start(totals: Count, read: () => Count): void;
  stop(): void;
}

const INTERVAL_MS = 1000;
/** The rate is that of the last seconds, not of the whole: it shows a link that has slowed down. */
const RATE_SAMPLES = 10;

export function createProgressDisplay(stream: WriteStream): ProgressDisplay {
  const bar = stream.isTTY ? createBar(stream) : undefined;
  let timer: NodeJS.Timeout | undefined;
  let show = (): void => {};
  return {
    start(totals, read) {
      const rate = new RecentRate();
      rate.sample(0, performance.now());
      bar?.start(totals.bytes, 0, { line: '' });
      show = () => {
        const done = read();
        const line = describeProgress(done, totals, rate.sample(done.bytes, performance.now()));
        if (bar === undefined) stream.write(`${line}\n`);
        else bar.update(Math.min(done.bytes, totals.bytes), { line });
      };
      timer = setInterval(show, bar === undefined ? INTERVAL_MS : INTERVAL_MS / 4);
    },
    stop() {
      clearInterval(timer);
      show();
      bar?.stop();
    },
  };
}

function createBar(stream: WriteStream): cliProgress.SingleBar {
  return new cliProgress.SingleBar({
    stream,
    format: (options, params, payload: { line: string }) => {
      const text = ` ${payload.line}`;
      const room = Math.max(0, Math.min(40, (stream.columns || 80) - text.length - 3));
      const barOptions = { ...options, barsize: room };
      return `[${cliProgress.Format.BarFormat(params.progress, barOptions)}]${text}`;
    },
    barCompleteChar: '=',
    barIncompleteChar: ' ',
    hideCursor: true,
  });
}

/** Bytes a second over the last samples. */
class RecentRate {
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
export function describeProgress(done: Count, total: Count, bytesPerSecond: number): string {
  const kilobytes = (bytes: number): number => Math.floor(bytes / 1024);
  // a file that grew may take the copy past the estimate
  const totalBytes = Math.max(total.bytes, done.bytes);
  const percent = totalBytes === 0 ? 100 : Math.floor((done.bytes / totalBytes) * 100);
  const left = bytesPerSecond === 0 ? '?' : formatSeconds((totalBytes - done.bytes) / bytesPerSecond);
  const rate = (bytesPerSecond / 1024 / 1024).toFixed(bytesPerSecond < 10 * 1024 * 1024 ? 1 : 0);
  return (
    `${kilobytes(done.bytes)}/${kilobytes(totalBytes)} kB (${percent}%), ${rate} MB/s, ${left} left, ` +
    `${done.files}/${total.files} files`
  );
}

function formatSeconds(seconds: number): string {
  const whole = Math.ceil(seconds);
  const minutes = Math.floor(whole / 60);
  const rest = String(whole % 60).padStart(2, '0');
  if (minutes < 60) return `${minutes}:${rest}`;
  return `${Math.floor(minutes / 60)}:${String(minutes % 60).padStart(2, '0')}:${rest}`;
}
