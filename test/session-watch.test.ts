/* A server that falls silent is noticed within the bound of the design, by a clock that the test moves on. */
import assert from 'node:assert/strict';
import { mock, test, type TestContext } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { ConvoyError } from '../src/errors.js';
import { SessionWatch } from '../src/session-watch.js';

/** DESIGN's bound, and the limit that every user of the watch gives. */
const NOTICE_LIMIT_MS = 10_000;
const ANSWER_LIMIT_MS = 7500;

interface Watched {
  /** What the next questions are answered with; never: the server has fallen silent. */
  answer: () => Promise<ConvoyError | undefined>;
  questions: number;
  failure: ConvoyError | undefined;
}

function watchOver(t: TestContext): { readonly watch: SessionWatch; readonly watched: Watched } {
  mock.timers.enable({ apis: ['setTimeout'] });
  t.after(() => mock.timers.reset());
  const watched: Watched = { answer: () => Promise.resolve(undefined), questions: 0, failure: undefined };
  const watch = new SessionWatch({
    server: 'server at "db1", port 5432',
    answerLimitMs: ANSWER_LIMIT_MS,
    ask: () => {
      watched.questions += 1;
      return watched.answer();
    },
  });
  void watch.failed.then((reason) => (watched.failure = reason));
  return { watch, watched };
}

/** Moves the clock on in steps, with a turn for what is due after each; ends early once the backup is lost. */
async function pass(milliseconds: number, watched: Watched): Promise<number> {
  const stepMs = 100;
  let passed = 0;
  for (; passed < milliseconds && watched.failure === undefined; passed += stepMs) {
    mock.timers.tick(stepMs);
    await nextTurn();
  }
  return passed;
}

const never = (): Promise<never> => new Promise(() => {});

test('a server that answers is asked every two seconds, and nothing happens', async (t) => {
  const { watch, watched } = watchOver(t);
  watch.begin();
  await pass(60_000, watched);
  assert.equal(watched.failure, undefined);
  assert.ok(watched.questions >= 29 && watched.questions <= 31, `${watched.questions} questions`);
});

test('whenever a server falls silent, it is noticed within ten seconds', async (t) => {
  for (let silentAfterMs = 0; silentAfterMs <= 4000; silentAfterMs += 300) {
    const { watch, watched } = watchOver(t);
    watch.begin();
    await pass(silentAfterMs, watched);
    watched.answer = never;
    const noticedAfterMs = await pass(60_000, watched);
    assert.equal(
      watched.failure?.message,
      'lost connection to server at "db1", port 5432: no answer for 7.5 s',
    );
    assert.equal(watched.failure.code, 'connection_lost');
    assert.ok(noticedAfterMs < NOTICE_LIMIT_MS, `${noticedAfterMs} ms`);
    mock.timers.reset();
  }
});

test('a reason that is found, or thrown, is what the backup ends with', async (t) => {
  const reason = new ConvoyError('wal_missing', 'gone');
  for (const answer of [() => Promise.resolve(reason), () => Promise.reject(reason)]) {
    const { watch, watched } = watchOver(t);
    watched.answer = answer;
    watch.begin();
    await pass(100, watched);
    assert.equal(watched.failure, reason);
    mock.timers.reset();
  }
});

test('once it is over, nobody is asked any more', async (t) => {
  const { watch, watched } = watchOver(t);
  watch.begin();
  await pass(1000, watched);
  await watch.end();
  const { questions } = watched;
  await pass(10_000, watched);
  assert.equal(watched.questions, questions);
  assert.equal(watched.failure, undefined);
});
