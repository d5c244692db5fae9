import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  MAX_TASK_FILES,
  plannedBytes,
  planLimits,
  planTasks,
  RANGE_UNIT_BYTES,
  type CopyTask,
  type PlanLimits,
  type PlannedFile,
} from '../../src/plan/plan.js';
import { SeededRandom } from '../support/seeded-random.js';

const MiB = 1024 * 1024;

function file(name: string, size: number, tablespace?: number): PlannedFile {
  return { source: `./${name}`, target: name, size, mtime: 0, tablespace };
}

const LIMITS: PlanLimits = { maxTaskBytes: 100, maxTaskFiles: 3, splitFiles: false, inTurn: false };

/** Names by task. */
function plan(files: readonly PlannedFile[], limits = LIMITS): string[][] {
  return planTasks(files, limits).map((task) => task.files.map(({ target }) => target));
}

describe('tasks', () => {
  test('of nothing are none', () => {
    assert.deepEqual(planTasks([], LIMITS), []);
  });

  test('hold files as they are listed, up to the number of bytes', () => {
    const files = [file('a', 40), file('b', 60), file('c', 1), file('d', 99)];
    assert.deepEqual(plan(files), [
      ['a', 'b'],
      ['c', 'd'],
    ]);
    assert.deepEqual(plan([...files, file('e', 1)]), [['a', 'b'], ['c', 'd'], ['e']]);
  });

  test('hold files up to their number', () => {
    assert.deepEqual(plan(['a', 'b', 'c', 'd'].map((name) => file(name, 0))), [['a', 'b', 'c'], ['d']]);
  });

  test('come largest first, with numbers in that order', () => {
    const tasks = planTasks(
      [file('small', 60), file('huge', 5000), file('large', 90), file('tiny', 20)],
      LIMITS,
    );
    assert.deepEqual(
      tasks.map(({ id, bytes }) => [id, bytes]),
      [
        [0, 5000],
        [1, 90],
        [2, 60],
        [3, 20],
      ],
    );
  });

  test('of a file larger than a task have it alone, and leave the one begun before it open', () => {
    const files = [file('a', 10), file('huge', 1000), file('b', 10), file('exact', 100)];
    assert.deepEqual(plan(files), [['huge'], ['exact'], ['a', 'b']]);
  });

  test('stay within one tablespace, even where the list goes to and fro', () => {
    const files = [file('a', 1), file('b', 1, 16384), file('c', 1), file('d', 1, 16385), file('e', 1, 16384)];
    assert.deepEqual(plan(files), [['a', 'c'], ['b', 'e'], ['d']]);
  });
});

describe('ranges', () => {
  const limits: PlanLimits = { maxTaskBytes: 4 * MiB, maxTaskFiles: 1000, splitFiles: true, inTurn: false };

  test('cut a file that is larger than a task into whole units and a rest', () => {
    const tasks = planTasks([file('large', 10 * MiB + 5)], limits);
    const ranges = tasks.map((task) => task.files[0]?.range);
    assert.deepEqual(ranges, [
      { offset: 0, length: 4 * MiB },
      { offset: 4 * MiB, length: 4 * MiB },
      { offset: 8 * MiB, length: 2 * MiB + 5 },
    ]);
  });

  test('are not made of a file that fits, nor where the source reads whole files', () => {
    assert.equal(planTasks([file('fits', 4 * MiB)], limits)[0]?.files[0]?.range, undefined);
    const whole = planTasks([file('large', 10 * MiB)], { ...limits, splitFiles: false });
    assert.equal(whole.length, 1);
    assert.equal(whole[0]?.files[0]?.range, undefined);
  });
});

describe('limits', () => {
  const cases: readonly (readonly [bytes: number, jobs: number, maxTaskBytes: number])[] = [
    [0, 1, 4 * MiB],
    [128 * MiB, 1, 4 * MiB],
    [128 * MiB + 1, 1, 4 * MiB + 1],
    [2048 * MiB, 4, 16 * MiB],
    [2 ** 50, 512, 256 * MiB],
  ];
  for (const [bytes, jobs, maxTaskBytes] of cases) {
    test(`of ${bytes} bytes over ${jobs} jobs`, () => {
      assert.deepEqual(planLimits(bytes, jobs, { splitFiles: true, heldBytes: undefined }), {
        maxTaskBytes,
        maxTaskFiles: MAX_TASK_FILES,
        splitFiles: true,
        inTurn: false,
      });
    });
  }

  test('as small as a target wants them that holds them, and in turn', () => {
    assert.deepEqual(planLimits(2 ** 40, 2, { splitFiles: true, heldBytes: 7 * MiB }), {
      maxTaskBytes: 7 * MiB,
      maxTaskFiles: MAX_TASK_FILES,
      splitFiles: true,
      inTurn: true,
    });
  });
});

test('whatever is listed, nothing is lost, doubled or out of bounds', () => {
  const random = new SeededRandom(130);
  for (let round = 0; round < 300; round += 1) {
    const files = Array.from({ length: random.below(400) }, (_none, index) =>
      file(
        `f${index}`,
        random.chance(20) ? random.below(40) * MiB + random.below(3) : random.below(2 ** random.below(24)),
        random.pick([undefined, undefined, 16384, 16385]),
      ),
    );
    const limits: PlanLimits = {
      maxTaskBytes: random.pick([1, MiB, 4 * MiB, 5 * MiB + 17]),
      maxTaskFiles: random.pick([1, 7, MAX_TASK_FILES]),
      splitFiles: random.chance(2),
      inTurn: random.chance(2),
    };
    assertComplete(files, planTasks(files, limits), limits);
  }
});

/** Parts come first, in turn; those of one file follow each other. Whole files come behind all parts. */
function assertTurns(tasks: readonly CopyTask[], areInTurn: boolean): void {
  const cut = tasks.filter(({ files }) => files[0]?.range !== undefined);
  assert.deepEqual(
    tasks.map(({ turn }) => turn),
    tasks.map((_task, index) => (areInTurn ? Math.min(index, cut.length) : undefined)),
  );
  if (!areInTurn) return;
  assert.deepEqual(tasks.slice(0, cut.length), cut);
  for (const [index, { files, slot }] of cut.entries()) {
    const before = cut[index - 1];
    const isNext = before !== undefined && before.slot === slot;
    const { offset = 0 } = files[0]?.range ?? {};
    assert.equal(offset, isNext ? (before.files[0]?.range?.offset ?? 0) + before.bytes : 0);
  }
}

function assertComplete(files: readonly PlannedFile[], tasks: readonly CopyTask[], limits: PlanLimits): void {
  const parts = new Map<string, { offset: number; length: number }[]>();
  for (const [index, task] of tasks.entries()) {
    assert.equal(task.id, index);
    assert.ok(task.files.length > 0 && task.files.length <= limits.maxTaskFiles);
    assert.equal(new Set(task.files.map(({ tablespace }) => tablespace)).size, 1);
    assert.equal(
      task.bytes,
      task.files.reduce((sum, each) => sum + plannedBytes(each), 0),
    );
    if (!limits.inTurn)
      assert.ok(index === 0 || task.bytes <= (tasks[index - 1]?.bytes ?? 0), 'largest first');
    assert.ok(task.bytes <= limits.maxTaskBytes || task.files.length === 1);
    if (limits.splitFiles) assert.ok(task.bytes <= Math.max(limits.maxTaskBytes, RANGE_UNIT_BYTES));
    for (const each of task.files) {
      const range = each.range ?? { offset: 0, length: each.size };
      parts.set(each.target, [...(parts.get(each.target) ?? []), range]);
    }
  }
  assertTurns(tasks, limits.inTurn);
  assert.equal(parts.size, files.length);
  for (const { target, size } of files) {
    // the parts lie one behind the other, from the first byte to the last
    let end = 0;
    for (const { offset, length } of (parts.get(target) ?? []).toSorted((a, b) => a.offset - b.offset)) {
      assert.equal(offset, end);
      end += length;
    }
    assert.equal(end, size);
  }
}
