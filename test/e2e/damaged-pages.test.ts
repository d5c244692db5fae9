/* Pages that are damaged on the server's disk: named, copied as they are, and the exit status tells. */
import assert from 'node:assert/strict';
import * as fs from 'node:fs/promises';
import path from 'node:path';
import { before, test } from 'node:test';
import { fileScope } from '../server/test-serve.js';
import type { EmbeddedServer } from '../../src/demo/embedded-server.js';
import { sql } from '../support/postgres.js';
import { verifyBackup } from '../support/restored.js';
import { newTarget, setStage, takeBackup, type Stage } from './stage.js';

const PAGE_BYTES = 8192;
const DAMAGED_BLOCKS = [3, 7] as const;

const scope = fileScope();
let stage: Stage;
let damagedFile: string;
before(async () => {
  stage = await setStage(scope, { settings: { autovacuum: 'off' } });
  damagedFile = await damageTable(stage.server);
});

/** Makes a table, and flips a bit in two of its pages while the server is down. @returns its file, relative */
async function damageTable(server: EmbeddedServer): Promise<string> {
  await sql(server, "CREATE TABLE t AS SELECT n, repeat('x', 500) FROM generate_series(1, 1000) n");
  const [row] = await sql<{ file: string }>(server, "SELECT pg_relation_filepath('t') AS file");
  const file = row?.file ?? '';
  await server.stop();
  const handle = await fs.open(path.join(server.dataDirectory, file), 'r+');
  for (const block of DAMAGED_BLOCKS) {
    const byte = Buffer.alloc(1);
    const offset = block * PAGE_BYTES + 5000;
    await handle.read(byte, 0, 1, offset);
    byte[0] = (byte[0] ?? 0) ^ 1;
    await handle.write(byte, 0, 1, offset);
  }
  await handle.close();
  await server.start();
  return file;
}

test('damaged pages are named, the backup is complete, and the exit status is 1', async (t) => {
  const target = await newTarget(t);
  const { status, stderr } = await takeBackup(stage.serve, target, ['-j', '2']);
  assert.equal(status, 1, stderr);
  const warnings = stderr.split('\n').filter((line) => line.startsWith('pgconvoy: warning: '));
  for (const [index, block] of DAMAGED_BLOCKS.entries()) {
    assert.match(
      warnings[index] ?? '',
      new RegExp(
        `^pgconvoy: warning: checksum verification failed in file "\\./${damagedFile}", block ${block}: calculated [0-9A-F]+ but expected [0-9A-F]+$`,
      ),
    );
  }
  assert.match(warnings[2] ?? '', /has a total of 2 checksum verification failures$/);
  assert.match(stderr, /\npgconvoy: error: checksum error occurred\n$/);
  await verifyBackup(t, target, 15);
  const [copied, original] = await Promise.all(
    [target, stage.server.dataDirectory].map((directory) => fs.readFile(path.join(directory, damagedFile))),
  );
  assert.ok(copied?.equals(original ?? Buffer.alloc(0)), 'the pages are copied as they are');
});

test('the report says so, with their number where the pages were checked here', async (t) => {
  const { server } = stage;
  for (const source of ['walsender', 'sql'] as const) {
    const target = await newTarget(t);
    const file = path.join(path.dirname(target), 'report.json');
    const user = { PGUSER: server.user, PGPASSWORD: server.password };
    const address = source === 'sql' ? server : stage.serve;
    const { status, stderr } = await takeBackup(
      address,
      target,
      [`--source=${source}`, '--report', file],
      user,
    );
    assert.equal(status, 1, stderr);
    const report = JSON.parse(await fs.readFile(file, 'utf8')) as Readonly<Record<string, unknown>>;
    const count = source === 'sql' ? DAMAGED_BLOCKS.length : null;
    assert.deepEqual(
      [report['status'], report['hasBadPages'], report['badPageCount']],
      ['bad_pages', true, count],
    );
    const warnings = report['warnings'] as readonly string[];
    assert.match(warnings[0] ?? '', /^checksum verification failed in file /);
    // each page, and their number
    assert.ok(warnings.length > DAMAGED_BLOCKS.length, warnings.join('\n'));
  }
});

test('--no-verify-checksums is silent about them', async (t) => {
  const target = await newTarget(t);
  const { status, stderr } = await takeBackup(stage.serve, target, ['--no-verify-checksums']);
  assert.equal(status, 0, stderr);
  assert.equal(stderr.includes('checksum'), false, stderr);
  await verifyBackup(t, target, 15);
});

test('a server without page checksums has none to fail', async (t) => {
  const { server, serve } = await setStage(t, { major: 18, dataChecksums: false });
  await damageTable(server);
  const target = await newTarget(t);
  const { status, stderr } = await takeBackup(serve, target);
  assert.equal(status, 0, stderr);
  assert.equal(stderr.includes('checksum'), false, stderr);
  await verifyBackup(t, target, 18);
});
