/*
 * What -P shows while files are copied: a bar on a terminal, one line a second elsewhere, or JSON lines on request.
 * Made by backup.ts, which also says when another message is about to be printed.
 */
import type { WriteStream } from 'node:tty';
import type { BackupPhase } from '../coordinator/backup-options.js';
import { ProgressBar } from './progress-bar.js';
import { describeProgress, RecentRate, type Count, type Progress } from './progress-text.js';

export interface ProgressDisplay {
  phase(phase: BackupPhase): void;
  start(totals: Count, read: () => Count): void;
  stop(): void;
  /** Makes room for a message. */
  clear(): void;
}

/** How one moment is shown. */
interface Style {
  readonly intervalMs: number;
  phase(phase: BackupPhase): void;
  show(progress: Progress): void;
  end(): void;
  clear(): void;
}

export function createProgressDisplay(stream: WriteStream, isJson = false): ProgressDisplay {
  const style = isJson ? jsonLines(stream) : stream.isTTY ? bar(stream) : lines(stream);
  let timer: NodeJS.Timeout | undefined;
  let show: (() => void) | undefined;
  return {
    phase: (phase) => style.phase(phase),
    start(total, read) {
      const rate = new RecentRate();
      rate.sample(0, performance.now());
      show = () => {
        const done = read();
        style.show({ done, total, bytesPerSecond: rate.sample(done.bytes, performance.now()) });
      };
      timer = setInterval(show, style.intervalMs);
    },
    stop() {
      clearInterval(timer);
      if (show === undefined) return;
      show();
      style.end();
      show = undefined;
    },
    clear: () => style.clear(),
  };
}

function nothing(): void {}

function bar(stream: WriteStream): Style {
  const drawn = new ProgressBar(stream);
  return {
    intervalMs: 250,
    phase: nothing,
    show: (progress) => drawn.draw(progress),
    end: () => drawn.end(),
    clear: () => drawn.clear(),
  };
}

function lines(stream: WriteStream): Style {
  const show = (progress: Progress): void => void stream.write(`${describeProgress(progress)}\n`);
  return { intervalMs: 1000, phase: nothing, show, end: nothing, clear: nothing };
}

/** One object a line; README names its fields. */
function jsonLines(stream: WriteStream): Style {
  const write = (line: object): void => void stream.write(`${JSON.stringify(line)}\n`);
  return {
    intervalMs: 1000,
    phase: (phase) => write({ phase }),
    show({ done, total, bytesPerSecond }) {
      const missing = Math.max(0, total.bytes - done.bytes);
      write({
        phase: 'copy' satisfies BackupPhase,
        bytes: done.bytes,
        totalBytes: total.bytes,
        files: done.files,
        totalFiles: total.files,
        bytesPerSecond: Math.round(bytesPerSecond),
        secondsLeft: bytesPerSecond === 0 ? null : Math.ceil(missing / bytesPerSecond),
      });
    },
    end: nothing,
    clear: nothing,
  };
}
