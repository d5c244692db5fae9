/*
 * What a test leaves behind and when it goes: in the reverse order of its making, which node:test's own `after` hooks
 * do not do (they run first to last, and would remove a directory under a running server).
 */
import * as fs from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { removeAtExit, removeDirectory } from '../../src/demo/left-at-exit.js';

/** The part of node:test's TestContext that cleaning up takes. */
export interface TestScope {
  after(hook: () => Promise<void>): void;
}

type Step = () => Promise<void> | void;

const stacks = new WeakMap<TestScope, Step[]>();

/** Runs the step when the test has ended, before the steps that were registered earlier. */
export function cleanup(t: TestScope, step: Step): void {
  const known = stacks.get(t);
  if (known !== undefined) {
    known.push(step);
    return;
  }
  const stack = [step];
  stacks.set(t, stack);
  t.after(async () => {
    const errors: unknown[] = [];
    for (let next = stack.pop(); next !== undefined; next = stack.pop()) {
      try {
        await next();
      } catch (error) {
        errors.push(error);
      }
    }
    if (errors.length > 0) throw new AggregateError(errors, `cleaning up failed: ${errors.join('; ')}`);
  });
}

/** A new directory that every account can pass through, removed when the test has ended. */
export async function temporaryDirectory(t: TestScope): Promise<string> {
  const directory = await fs.realpath(await fs.mkdtemp(path.join(tmpdir(), 'pgconvoy-test-')));
  await fs.chmod(directory, 0o711);
  removeAtExit(directory);
  cleanup(t, () => removeDirectory(directory));
  return directory;
}
