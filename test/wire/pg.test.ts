import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { test } from 'node:test';
import { promisify } from 'node:util';

const CONNECTION = new URL('../../src/wire/connection.js', import.meta.url).href;

/** Says what a connection's code has loaded, and then whether Response is still the one of Node.js. */
const SCRIPT = `
  await import(${JSON.stringify(CONNECTION)});
  const loaded = process.moduleLoadList.filter((name) => name.includes('undici'));
  console.log(JSON.stringify({ loaded, text: await new Response('whole').text() }));
`;

test('node-postgres is loaded without fetch, which stays as it is for everybody else', async () => {
  const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', SCRIPT]);
  assert.deepEqual(JSON.parse(stdout), { loaded: [], text: 'whole' });
});
