/* The demo as a user sees it: what it says, how it ends, and that nothing stays behind. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { test, type TestContext } from 'node:test';
import { PROGRAM_FILE } from '../../src/demo/own-program.js';
import { temporaryDirectory } from '../support/cleanup.js';
import { run } from '../support/tools.js';

/** What the demo runs in: nothing else makes anything here. */
async function demoDirectory(t: TestContext): Promise<Record<string, string>> {
  return { TMPDIR: await temporaryDirectory(t), PGPORT: '1', PGUSER: 'nobody', PGPASSWORD: 'not this' };
}

function leftIn(env: Record<string, string>): string[] {
  return readdirSync(env['TMPDIR'] ?? '');
}

void test('the demo backs up a server, starts the result, finds it good and leaves nothing', async (t) => {
  const env = await demoDirectory(t);
  const result = await run(process.execPath, [PROGRAM_FILE, 'demo', '--size-mb', '20'], { env });
  assert.equal(result.status, 0, `${result.stdout}${result.stderr}`);
  assert.match(result.stdout, /^\$ pgconvoy backup -D .* -j 2 /m);
  assert.match(
    result.stdout,
    /^the backup is good: it started, it holds all \d+ rows committed before it ended/m,
  );
  assert.deepEqual(leftIn(env), []);
});

void test('Ctrl-C while the backup runs ends the demo, its servers and its files', async (t) => {
  const env = await demoDirectory(t);
  const child = spawn(process.execPath, [PROGRAM_FILE, 'demo', '--size-mb', '60'], {
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  t.after(() => child.kill('SIGKILL'));
  let output = '';
  const ended = once(child, 'close');
  const backingUp = new Promise<void>((resolve) => {
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (text: string) => {
        output += text;
        if (output.includes('initiating base backup')) resolve();
      });
    }
  });
  await Promise.race([backingUp, ended]);
  child.kill('SIGINT');
  child.kill('SIGINT');
  // `close` comes when nobody holds its output any more: the backup has ended as well.
  await ended;
  assert.equal(child.exitCode, 1, output);
  assert.match(output, /pgconvoy: error: interrupted by SIGINT\n$/);
  assert.doesNotMatch(output, /the backup is good/);
  assert.deepEqual(leftIn(env), []);
});

void test('the demo refuses a file system without room before it starts anything', async (t) => {
  const env = await demoDirectory(t);
  const result = await run(process.execPath, [PROGRAM_FILE, 'demo', '--size-mb', '1000000'], { env });
  assert.equal(result.status, 1);
  assert.match(
    result.stderr,
    /^pgconvoy: error: the demo needs \d+ MB in ".*", and there are \d+ MB: use a smaller/,
  );
  assert.deepEqual(leftIn(env), []);
});
