/* A password that is typed: on the terminal, unseen. `script` (bsdutils) gives the program a terminal. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { before, test, type TestContext } from 'node:test';
import { fileScope } from '../server/test-serve.js';
import { cleanup, temporaryDirectory } from '../support/cleanup.js';
import { PROGRAM } from '../support/pgconvoy.js';
import { verifyBackup } from '../support/restored.js';
import { assertAbsent, BACKUP_ENVIRONMENT, newTarget, setStage, type Stage } from './stage.js';

const SCRIPT = '/usr/bin/script';
const OPTIONS = { timeout: 60_000, skip: existsSync(SCRIPT) ? false : `${SCRIPT} is not installed` };
const PROMPT = 'Password for user backup: ';
const { PGUSER, PGPASSWORD } = BACKUP_ENVIRONMENT;

const scope = fileScope();
let stage: Stage;
before(async () => {
  stage = await setStage(scope);
});

interface Typed {
  readonly status: number | null;
  /** All that the terminal showed. */
  readonly shown: string;
}

/** A backup on a terminal, where each of the keys is typed at one prompt. */
async function backupTyping(
  t: TestContext,
  target: string,
  extra: readonly string[],
  keys: readonly string[],
): Promise<Typed> {
  const { host, port } = stage.serve;
  const connection = ['-h', host, '-p', String(port), '-U', PGUSER, '-j', '2'];
  const args = ['backup', '--source=walsender', '-D', target, '-c', 'fast', '-N', ...connection, ...extra];
  const command = [process.execPath, PROGRAM, ...args].map((word) => `'${word}'`).join(' ');
  const HOME = await temporaryDirectory(t);
  const child = spawn(SCRIPT, ['-qefc', command, '/dev/null'], {
    env: { HOME, PATH: process.env['PATH'], PGSSLMODE: 'disable', TERM: 'dumb' },
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  cleanup(t, () => void child.kill('SIGKILL'));
  let shown = '';
  let typed = 0;
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    shown += text;
    const prompts = shown.split(PROMPT).length - 1;
    for (; typed < Math.min(prompts, keys.length); typed += 1) child.stdin.write(keys[typed] ?? '');
  });
  const status = await new Promise<number | null>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', resolve);
  });
  return { status, shown };
}

for (const extra of [[], ['-W']]) {
  test(
    `a password is asked for once, for all connections, and not shown ${extra.join('')}`,
    OPTIONS,
    async (t) => {
      const target = await newTarget(t);
      const { status, shown } = await backupTyping(t, target, extra, [`${PGPASSWORD}x\u007f\r`]);
      assert.equal(status, 0, shown);
      assert.equal(shown.split(PROMPT).length - 1, 1);
      assert.doesNotMatch(shown, new RegExp(PGPASSWORD));
      await verifyBackup(t, target, 15);
    },
  );
}

test('a wrong password is refused, and not shown', OPTIONS, async (t) => {
  const target = await newTarget(t);
  const { status, shown } = await backupTyping(t, target, ['-W'], ['not this\r']);
  assert.equal(status, 1);
  assert.match(shown, /pgconvoy: error: .*password authentication failed for user "backup"/);
  assert.doesNotMatch(shown, /not this/);
  await assertAbsent(target);
});

test('Ctrl-C at the prompt ends the program', OPTIONS, async (t) => {
  const target = await newTarget(t);
  const { status, shown } = await backupTyping(t, target, ['-W'], ['copy\u0003']);
  assert.equal(status, 1);
  assert.match(shown, /pgconvoy: error: interrupted/);
  await assertAbsent(target);
});
