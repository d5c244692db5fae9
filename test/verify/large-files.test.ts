/* Files so large that threads share them: their checksum is put together from ranges, and bad pages are counted over all. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { copyFileSync, mkdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { test, type TestContext } from 'node:test';
import { crc32c } from '@node-rs/crc32';
import { verify } from '../../src/verify/verify.js';
import { temporaryDirectory } from '../support/cleanup.js';
import { testServer } from '../support/postgres.js';

const MiB = 1024 * 1024;
const RELATION = 'base/5/16384';
const CONTROL_FILE = 'global/pg_control';

interface Backup {
  readonly directory: string;
  readonly content: Buffer;
}

/** A relation of 100 MiB and 3 pages, new pages but for three that no server wrote, with the right manifest checksum. */
async function largeBackup(t: TestContext): Promise<Backup> {
  const server = await testServer(t, { major: 18, start: false });
  const directory = path.join(await temporaryDirectory(t), 'backup');
  const content = Buffer.alloc(100 * MiB + 3 * 8192);
  for (const page of [5000, 9000, 12_802]) content.fill(0xa5, page * 8192 + 8, (page + 1) * 8192);
  mkdirSync(path.join(directory, 'base/5'), { recursive: true });
  mkdirSync(path.join(directory, 'global'));
  copyFileSync(path.join(server.dataDirectory, CONTROL_FILE), path.join(directory, CONTROL_FILE));
  writeFileSync(path.join(directory, RELATION), content);
  const entries = [RELATION, CONTROL_FILE].map((file) => {
    const bytes = readFileSync(path.join(directory, file));
    const crc = Buffer.alloc(4);
    crc.writeUInt32LE(crc32c(bytes));
    return `{ "Path": "${file}", "Size": ${bytes.length}, "Checksum-Algorithm": "CRC32C", "Checksum": "${crc.toString('hex')}" }`;
  });
  const lines = `{ "PostgreSQL-Backup-Manifest-Version": 1,\n"Files": [\n${entries.join(',\n')}\n],\n`;
  const checksum = createHash('sha256').update(lines).digest('hex');
  writeFileSync(path.join(directory, 'backup_manifest'), `${lines}"Manifest-Checksum": "${checksum}"}\n`);
  return { directory, content };
}

interface Checked {
  readonly problems: readonly string[];
  readonly read: { readonly bytes: number; readonly files: number } | undefined;
}

async function check(
  directory: string,
  jobs: number,
  checkPages = false,
  checkFiles = true,
): Promise<Checked> {
  const problems: string[] = [];
  let progress: (() => NonNullable<Checked['read']>) | undefined;
  const report = await verify(
    {
      backup: directory,
      format: undefined,
      manifest: undefined,
      ignore: ['PG_VERSION'],
      checkWal: true,
      walDirectory: undefined,
      checkFiles,
      checkPages,
      jobs,
      stopAtFirst: false,
    },
    {
      problem: (message) => problems.push(message),
      warning: (message) => problems.push(message),
      readingStarted: (_, read) => (progress = read),
      readingEnded: () => {},
    },
  );
  assert.equal(report.problems, problems.length);
  return { problems, read: progress?.() };
}

test('a large file, good and damaged', async (t) => {
  const { directory, content } = await largeBackup(t);
  const file = path.join(directory, RELATION);
  for (const jobs of [1, 2, 3]) {
    assert.deepEqual(await check(directory, jobs), {
      problems: [],
      read: { bytes: content.length + 8192, files: 2 },
    });
  }
  const { problems } = await check(directory, 2, true, false);
  assert.deepEqual(
    problems.map((line) => line.replace(/calculated .*/, '#')),
    [
      `checksum verification failed in file "${RELATION}", block 5000: #`,
      `checksum verification failed in file "${RELATION}", block 9000: #`,
      `checksum verification failed in file "${RELATION}", block 12802: #`,
      `file "${RELATION}" has a total of 3 checksum verification failures`,
    ],
  );
  for (const at of [0, 32 * MiB - 1, 32 * MiB, 70 * MiB, content.length - 1]) {
    content.writeUInt8(content.readUInt8(at) ^ 1, at);
    writeFileSync(file, content);
    assert.deepEqual((await check(directory, 2)).problems, [`checksum mismatch for file "${RELATION}"`]);
    content.writeUInt8(content.readUInt8(at) ^ 1, at);
  }
  truncateSync(file, 70 * MiB);
  assert.deepEqual((await check(directory, 2)).problems, [
    `"${RELATION}" has size ${70 * MiB} on disk but size ${content.length} in the manifest`,
  ]);
});
