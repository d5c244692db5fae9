/* Control files of real clusters, read as pg_control_system() and pg_control_checkpoint() of their servers read them. */
import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { before, describe, test } from 'node:test';
import { formatLsn } from '../../src/lsn.js';
import {
  isIntactControlFile,
  parseControlFile,
  readControlFile,
  readControlFileBytes,
} from '../../src/pgdata/control-file.js';
import { temporaryDirectory } from '../support/cleanup.js';
import { sql, testServer, type Major } from '../support/postgres.js';
import { requireTool, run } from '../support/tools.js';

const LIMIT = { timeout: 60_000 };

for (const major of [13, 14, 15, 16, 17, 18] satisfies Major[]) {
  test(`of PostgreSQL ${major}`, LIMIT, async (t) => {
    const server = await testServer(t, { major, dataChecksums: major % 2 === 0 });
    // a redo location that differs from the checkpoint's
    await sql(server, 'create table t (n int)');
    await sql(server, 'checkpoint');
    const [expected] = await sql(
      server,
      `select system_identifier::text as identifier, pg_control_version as control, catalog_version_no as catalog,
        checkpoint_lsn::text as checkpoint, redo_lsn::text as redo, timeline_id as timeline,
        current_setting('data_checksums') = 'on' as checksums
       from pg_control_system(), pg_control_checkpoint()`,
    );
    const found = await readControlFile(server.dataDirectory);
    assert.deepEqual(
      {
        identifier: String(found.systemIdentifier),
        control: found.controlVersion,
        catalog: found.catalogVersion,
        checkpoint: formatLsn(found.checkPoint),
        redo: formatLsn(found.redo),
        timeline: found.timeline,
        checksums: found.hasDataChecksums,
      },
      expected,
    );
  });
}

test('of a stopped PostgreSQL 15, as pg_controldata reads it', LIMIT, async (t) => {
  const command = requireTool(t, 'pg_controldata');
  if (command === undefined) return;
  const server = await testServer(t, { major: 15, start: false });
  const { stdout } = await run(command, [server.dataDirectory]);
  const found = await readControlFile(server.dataDirectory);
  assert.match(stdout, new RegExp(`^Database system identifier: +${found.systemIdentifier}$`, 'm'));
  assert.match(stdout, new RegExp(`^Latest checkpoint location: +${formatLsn(found.checkPoint)}$`, 'm'));
  assert.match(stdout, new RegExp(`^Latest checkpoint's REDO location: +${formatLsn(found.redo)}$`, 'm'));
  assert.match(stdout, new RegExp(`^Latest checkpoint's TimeLineID: +${found.timeline}$`, 'm'));
});

describe('a damaged control file', () => {
  const whole = new Map<Major, Buffer>();

  before(async () => {
    // a scope of its own: the files outlive the servers
    const steps: (() => Promise<void>)[] = [];
    const scope = { after: (hook: () => Promise<void>) => void steps.push(hook) };
    for (const major of [13, 18] as const) {
      const server = await testServer(scope, { major, start: false });
      whole.set(major, readFileSync(path.join(server.dataDirectory, 'global', 'pg_control')));
    }
    for (const step of steps) await step();
  });

  for (const major of [13, 18] as const) {
    test(`of PostgreSQL ${major}: any bit of the structure`, () => {
      const bytes = whole.get(major) ?? Buffer.alloc(0);
      assert.ok(isIntactControlFile(bytes));
      // the structure ends with its CRC; behind it the file is zeros
      const used = bytes.length - bytes.toReversed().findIndex((byte) => byte !== 0);
      assert.ok(used > 200 && used <= 512, `${used} bytes`);
      for (let bit = 0; bit < used * 8; bit += 1) {
        const damaged = Buffer.from(bytes);
        damaged[bit >> 3] = (damaged[bit >> 3] ?? 0) ^ (1 << (bit & 7));
        assert.equal(isIntactControlFile(damaged), false, `bit ${bit}`);
      }
    });
  }

  const broken: readonly (readonly [name: string, mutilate: (bytes: Buffer) => Buffer])[] = [
    ['one byte short', (bytes) => bytes.subarray(1)],
    ['only its first sector', (bytes) => bytes.subarray(0, 512)],
    ['empty', () => Buffer.alloc(0)],
    ['zeros', () => Buffer.alloc(8192)],
    ['ones', () => Buffer.alloc(8192, 0xff)],
    ['torn between two states', (bytes) => Buffer.concat([Buffer.alloc(64, 1), bytes.subarray(64)])],
    ['of the other byte order', (bytes) => Buffer.from(bytes).swap32()],
  ];
  for (const [name, mutilate] of broken) {
    test(`${name} is refused`, async (t) => {
      const bytes = mutilate(whole.get(18) ?? Buffer.alloc(0));
      assert.throws(() => parseControlFile(bytes), { code: 'file_damaged' });
      const directory = dataDirectoryWith(await temporaryDirectory(t), bytes);
      await assert.rejects(readControlFileBytes(directory), {
        code: 'file_damaged',
        message: /invalid checksum/,
      });
    });
  }

  test('that is whole again a moment later is read', async (t) => {
    const bytes = whole.get(13) ?? Buffer.alloc(0);
    const torn = Buffer.concat([bytes.subarray(0, 100), Buffer.alloc(8092)]);
    const directory = dataDirectoryWith(await temporaryDirectory(t), torn);
    const reading = readControlFileBytes(directory);
    setImmediate(() => writeFileSync(path.join(directory, 'global', 'pg_control'), bytes));
    assert.deepEqual(await reading, bytes);
  });

  test('that is not there is named', async (t) => {
    const directory = await temporaryDirectory(t);
    await assert.rejects(readControlFile(directory), {
      code: 'target_io',
      message: `could not read file "${directory}/global/pg_control": No such file or directory`,
    });
  });
});

function dataDirectoryWith(directory: string, controlFile: Buffer): string {
  mkdirSync(path.join(directory, 'global'));
  writeFileSync(path.join(directory, 'global', 'pg_control'), controlFile);
  return directory;
}
