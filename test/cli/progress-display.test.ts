import assert from 'node:assert/strict';
import { Writable } from 'node:stream';
import { describe, test } from 'node:test';
import type { WriteStream } from 'node:tty';
import { createProgressDisplay } from '../../src/cli/progress-display.js';
import { describeProgress } from '../../src/cli/progress-text.js';

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
      const progress = { done: count(done), total: count(total), bytesPerSecond };
      assert.equal(describeProgress(progress), line);
    });
  }
});

/** What a display writes to a stream that is, or is no terminal. */
class Screen extends Writable {
  text = '';
  columns = 100;
  readonly isTTY: boolean;

  constructor(isTTY: boolean) {
    super();
    this.isTTY = isTTY;
  }

  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.text += chunk.toString();
    done();
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

  test('on a terminal draws a bar that fits, with fewer words where there is less room', (t) => {
    t.mock.timers.enable({ apis: ['setInterval'] });
    for (const [columns, shape] of [
      [200, /^\[={20} {20}\] 51200\/102400 kB \(50%\), .* MB\/s, .* left, 5\/10 files$/],
      [80, /^\[=+ +\] 51200\/102400 kB \(50%\), .* MB\/s, .* left, 5\/10 files$/],
      [66, /^\[=+ +\] 51200\/102400 kB \(50%\), .* MB\/s, .* left$/],
      [50, /^\[=+ +\] 51200\/102400 kB \(50%\), .* left$/],
      [36, /^\[=+ +\] 51200\/102400 kB \(50%\)$/],
      [20, /^\[=+ +\] 50%$/],
      [10, /^50%$/],
      [2, /^5$/],
    ] as const) {
      const screen = new Screen(true);
      screen.columns = columns;
      const display = createProgressDisplay(screen.asStream());
      display.start({ bytes: 100 * MiB, files: 10 }, () => ({ bytes: 50 * MiB, files: 5 }));
      t.mock.timers.tick(250);
      display.stop();
      assert.match(screen.text, /\n$/);
      const drawn = screen.text.trimEnd().split('\r\u001B[J').slice(1);
      assert.equal(drawn.length, 2);
      for (const line of drawn) {
        assert.match(line, shape);
        assert.ok(line.length < columns, line);
      }
    }
  });

  test('on a terminal that is made narrower wipes the lines that the bar was folded into', (t) => {
    t.mock.timers.enable({ apis: ['setInterval'] });
    const screen = new Screen(true);
    const display = createProgressDisplay(screen.asStream());
    display.start({ bytes: 100 * MiB, files: 10 }, () => ({ bytes: 0, files: 0 }));
    t.mock.timers.tick(250);
    const [, first = ''] = screen.text.split('\r\u001B[J');
    screen.columns = 30;
    screen.text = '';
    t.mock.timers.tick(250);
    const folds = Math.ceil(first.length / 30) - 1;
    assert.ok(folds > 1, first);
    assert.ok(screen.text.startsWith(`\u001B[${folds}A\r\u001B[J`), JSON.stringify(screen.text));
    screen.columns = 200;
    screen.text = '';
    t.mock.timers.tick(250);
    assert.ok(screen.text.startsWith(`\r\u001B[J[${' '.repeat(40)}] 0/102400 kB`), screen.text);
    display.stop();
  });

  test('on a terminal leaves its line to a message', (t) => {
    t.mock.timers.enable({ apis: ['setInterval'] });
    const screen = new Screen(true);
    const display = createProgressDisplay(screen.asStream());
    display.clear();
    assert.equal(screen.text, '');
    display.start({ bytes: 1, files: 1 }, () => ({ bytes: 0, files: 0 }));
    t.mock.timers.tick(250);
    display.clear();
    assert.ok(screen.text.endsWith('\r\u001B[J'), screen.text);
    display.stop();
    display.clear();
    assert.match(screen.text, /files\n$/);
  });

  test('as JSON is an object a second, terminal or not', (t) => {
    t.mock.timers.enable({ apis: ['setInterval'] });
    const screen = new Screen(true);
    const display = createProgressDisplay(screen.asStream(), true);
    display.phase('start');
    display.phase('copy');
    let bytes = 0;
    display.start({ bytes: 2048, files: 2 }, () => ({ bytes, files: 0 }));
    t.mock.timers.tick(1000);
    bytes = 1024;
    display.stop();
    const [start, copy, first, last, ...rest] = screen.text
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as Readonly<Record<string, unknown>>);
    assert.deepEqual([start, copy, rest], [{ phase: 'start' }, { phase: 'copy' }, []]);
    const fixed = { phase: 'copy', totalBytes: 2048, files: 0, totalFiles: 2 };
    assert.deepEqual(first, { ...fixed, bytes: 0, bytesPerSecond: 0, secondsLeft: null });
    const { bytesPerSecond, secondsLeft, ...others } = last ?? {};
    assert.deepEqual(others, { ...fixed, bytes: 1024 });
    assert.ok(Number(bytesPerSecond) > 0);
    assert.equal(secondsLeft, Math.ceil(1024 / Number(bytesPerSecond)));
  });

  test('that was never started may be stopped', () => {
    const screen = new Screen(false);
    createProgressDisplay(screen.asStream()).stop();
    assert.equal(screen.text, '');
  });
});
