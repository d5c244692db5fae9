import assert from 'node:assert/strict';
import { chmodSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { refuseWithoutSyncfs, syncFileSystems } from '../../src/target/sync-file-systems.js';
import { cleanup, temporaryDirectory, type TestScope } from '../support/cleanup.js';

/** Lets a script stand for the program. */
async function withProgram(t: TestScope, script: string | undefined): Promise<string> {
  const directory = await temporaryDirectory(t);
  if (script !== undefined) {
    writeFileSync(path.join(directory, 'sync'), `#!/bin/sh\n${script}\n`);
    chmodSync(path.join(directory, 'sync'), 0o755);
  }
  const before = process.env['PATH'];
  process.env['PATH'] = directory;
  cleanup(t, () => void (process.env['PATH'] = before));
  return directory;
}

test('file systems are synced together', async (t) => {
  const directory = await withProgram(t, 'echo "$@" > "${0%/*}/arguments"');
  await syncFileSystems(['/a', '/b c']);
  assert.equal(readFileSync(path.join(directory, 'arguments'), 'utf8'), '-f -- /a /b c\n');
});

test('the real program does it, and names what is not there', async (t) => {
  const directory = await temporaryDirectory(t);
  await refuseWithoutSyncfs();
  await syncFileSystems([directory]);
  await assert.rejects(syncFileSystems([path.join(directory, 'gone')]), {
    code: 'target_io',
    message: /^could not synchronize file systems: .*gone.*No such file or directory/,
  });
});

const REFUSED = {
  code: 'target_refused',
  message: 'this system does not support sync method "syncfs"',
} as const;

test('a program without -f, or none, is refused', async (t) => {
  await withProgram(t, 'echo "Usage: sync [--help]" >&2; exit 1');
  await assert.rejects(refuseWithoutSyncfs(), REFUSED);
  await withProgram(t, undefined);
  await assert.rejects(refuseWithoutSyncfs(), REFUSED);
});

test('the help of busybox tells of -f', async (t) => {
  await withProgram(t, 'echo "Usage: sync [-df] [FILE]...\n\t-f Sync filesystems" >&2; exit 1');
  await refuseWithoutSyncfs();
});
