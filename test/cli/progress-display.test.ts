import assert from 'node:assert/strict';
import { Writable } from 'node:stream';
import { describe, test } from 'node:test';
import type { WriteStream } from 'node:tty';
import { createProgressDisplay, describeProgress } from '../../src/cli/progress-display.js';

const MiB = 1024 * 1024;

describe('a line of progress', () => {
  const cases: readonly (readonly [
    done: readonly [bytes: number, files: number],
    total: readonly [bytes: number, files: number],
    bytesPerSecond: number,
    line: string,
  ])[] = [
    [[0, 0], [100 * MiB, 10], 0, '0/102400 kB (0%), 0.0 MB/s, ? left, 0/10 files'],
    [[50 * MiB, 5], [100 * MiB, 10], 2.5 * MiB, '51200/102400 kB (50%), 2.5 MB/s, 0:20 left, 5/10 files'],
    [[1, 1], [100 * MiB, 10], 345 * MiB, '0/102400 kB (0%), 345 MB/s, 0:01 left, 1/10 files'],
    [[100 * MiB, 10], [100 * MiB, 10], MiB, '102400/102400 kB (100%), 1.0 MB/s, 0:00 left, 10/10 files'],
    [[100 * MiB - 1, 9], [100 * MiB, 10], MiB, '102399/102400 kB (99%), 1.0 MB/s, 0:01 left, 9/10 files'],
    [[0, 0], [3600 * MiB, 1], MiB, '0/3686400 kB (0%), 1.0 MB/s, 1:00:00 left, 0/1 files'],
    [[0, 0], [100_000 * MiB, 1], MiB, '0/102400000 kB (0%), 1.0 MB/s, 27:46:40 left, 0/1 files'],
    [[0, 0], [59 * MiB, 1], MiB, '0/60416 kB (0%), 1.0 MB/s, 0:59 left, 0/1 files'],
    // files grew after they had been listed
    [[110 * MiB, 10], [100 * MiB, 10], MiB, '112640/112640 kB (100%), 1.0 MB/s, 0:00 left, 10/10 files'],
    [[0, 0], [0, 0], 0, '0/0 kB (100%), 0.0 MB/s, ? left, 0/0 files'],
  ];
  for (const [done, total, bytesPerSecond, line] of cases) {
    test(line, () => {
      const count = ([bytes, files]: readonly [number, number]) => ({ bytes, files });
      assert.equal(describeProgress(count(done), count(total), bytesPerSecond), line);
    });
  }
});

/** What a display writes to a stream that is, or is no terminal. */
class Screen extends Writable {
  text = '';
  readonly columns = 100;
  readonly isTTY: boolean;

  constructor(isTTY: boolean) {
    super();
    this.isTTY = isTTY;
  }

  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.text += chunk.toString();
    done();
  }

  cursorTo(): boolean {
    return true;
  }

  clearLine(): boolean {
    return true;
  }

  asStream(): WriteStream {
    return this as unknown as WriteStream;
  }
}

describe('a display', () => {
  test('without a terminal writes a line a second, and one at the end', (t) => {
    t.mock.timers.enable({ apis: ['setInterval'] });
    const screen = new Screen(false);
    const display = createProgressDisplay(screen.asStream());
    const done = { bytes: 0, files: 0 };
    display.start({ bytes: 2048, files: 2 }, () => ({ ...done }));
    t.mock.timers.tick(999);
    assert.equal(screen.text, '');
    t.mock.timers.tick(1);
    done.bytes = 1024;
    done.files = 1;
    t.mock.timers.tick(1000);
    done.bytes = 2048;
    done.files = 2;
    display.stop();
    t.mock.timers.tick(5000);
    assert.deepEqual(
      screen.text.split('\n').map((line) => line.replace(/, .* left,/, ',')),
      ['0/2 kB (0%), 0/2 files', '1/2 kB (50%), 1/2 files', '2/2 kB (100%), 2/2 files', ''],
    );
  });

  test('on a terminal draws a bar that fits', (t) => {
    t.mock.timers.enable({ apis: ['setInterval'] });
    const screen = new Screen(true);
    const display = createProgressDisplay(screen.asStream());
    display.start({ bytes: 100 * MiB, files: 10 }, () => ({ bytes: 50 * MiB, files: 5 }));
    t.mock.timers.tick(250);
    display.stop();
    assert.match(screen.text, /\[=+ +\] 51200\/102400 kB \(50%\)/);
    const bars = screen.text.match(/\[=* *\] [^[]* files/g) ?? [];
    assert.ok(bars.length > 0);
    for (const line of bars) assert.ok(line.length <= screen.columns, line);
  });

  test('that was never started may be stopped', () => {
    const screen = new Screen(false);
    createProgressDisplay(screen.asStream()).stop();
    assert.equal(screen.text, '');
  });
});
