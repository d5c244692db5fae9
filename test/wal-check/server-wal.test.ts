/*
 * WAL that servers of every supported version have written: small segments, records that go on over many pages and
 * segments, switched segments, a crash that lost the rest of a record. Damages are made to copies of it; pg_waldump,
 * where it is installed, is asked about the good and the bad.
 */
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import path from 'node:path';
import { describe, test } from 'node:test';
import { formatLsn, parseLsn, type Lsn } from '../../src/lsn.js';
import { readControlFile } from '../../src/pgdata/control-file.js';
import type { EmbeddedServer } from '../../src/demo/embedded-server.js';
import { sql, testServer, type Major } from '../support/postgres.js';
import { run, tool } from '../support/tools.js';
import { checkStreamedWal, checkWal, type CheckedRange } from './wal-check.js';

const SEGMENT_BYTES = 1024 * 1024;
const MAJORS: readonly Major[] = [13, 14, 15, 16, 17, 18];

const MIXED_LOAD = `
  create table filled as select n, repeat(md5(n::text), 20) as filler from generate_series(1, 5000) n;
  create index on filled (filler);
  update filled set n = n + 1 where n % 3 = 0;
  checkpoint;
  update filled set n = n + 1 where n % 7 = 0;
  select count(pg_logical_emit_message(false, 'long', repeat('x', 3500000)));
  select count(pg_logical_emit_message(false, 'of any length', repeat('y', n))) from generate_series(1, 9000, 7) n;
  select pg_switch_wal();
  insert into filled select * from filled limit 2000;
`;

describe('the WAL of a server', { concurrency: 2 }, () => {
  for (const major of MAJORS) {
    test(`of version ${major} is good from a checkpoint to the next`, async (t) => {
      const server = await testServer(t, { major, initdbArguments: ['--wal-segsize=1'] });
      await sql(server, 'checkpoint');
      const { redo, systemIdentifier } = await readControlFile(server.dataDirectory);
      await sql(server, MIXED_LOAD);
      await loseContinuation(server);
      await server.start();
      await sql(server, 'insert into filled select * from filled limit 2000');
      const [row] = await sql<{ end: string }>(server, 'select pg_current_wal_insert_lsn() as end');
      await server.stop();
      const endLsn = parseLsn(row?.end ?? '');
      assert.ok(endLsn !== undefined && endLsn - redo > 10n * BigInt(SEGMENT_BYTES));
      const range = { directory: walDirectory(server), startLsn: redo, endLsn, systemIdentifier };
      assert.deepEqual(checkWal(range), []);
      assert.deepEqual(checkStreamedWal(range), []);
      await assertWaldumpAgrees(major, range);
      assertForeignIsTold(range, systemIdentifier);
    });
  }
});

function walDirectory(server: EmbeddedServer): string {
  return path.join(server.dataDirectory, 'pg_wal');
}

/** Though only the first page of a segment says whose it is, and the first record may be far behind it. */
function assertForeignIsTold(range: CheckedRange, systemIdentifier: bigint): void {
  const segmentBytes = BigInt(SEGMENT_BYTES);
  const segmentStart = ((range.startLsn / segmentBytes + 1n) * segmentBytes) as Lsn;
  const startLsn = (segmentStart + 65_536n) as Lsn;
  const endLsn = (startLsn + 8_192n) as Lsn;
  const problem =
    'WAL file is from different database system: WAL file database system identifier is ' +
    `${systemIdentifier}, pg_control database system identifier is 1`;
  for (const check of [checkWal, checkStreamedWal]) {
    assert.equal(check({ ...range, systemIdentifier: 1n })?.[0], problem);
    assert.deepEqual(check({ ...range, startLsn, endLsn, systemIdentifier: 1n }), [problem]);
  }
}

/** A crash of the machine between two segments, as PostgreSQL's 026_overwrite_contrecord.pl makes one. */
async function loseContinuation(server: EmbeddedServer): Promise<void> {
  const [row] = await sql<{ name: string }>(
    server,
    'select pg_walfile_name(pg_current_wal_insert_lsn()) as name',
  );
  await sql(server, `select count(pg_logical_emit_message(false, 'lost', repeat('z', 3000000)))`);
  await server.stop('immediate');
  const directory = walDirectory(server);
  const later = readdirSync(directory).filter(
    (name) => /^[0-9A-F]{24}$/.test(name) && name > (row?.name ?? ''),
  );
  assert.ok(later.length >= 2);
  for (const name of later) await rm(path.join(directory, name));
}

async function assertWaldumpAgrees(major: Major, range: CheckedRange): Promise<void> {
  const command = tool('pg_waldump');
  if (command === undefined || major !== 15) return;
  const [start, end] = [range.startLsn, range.endLsn].map(formatLsn);
  const { status, stderr } = await run(command, [
    '-q',
    `--path=${range.directory}`,
    '--timeline=1',
    `--start=${start}`,
    `--end=${end}`,
  ]);
  assert.deepEqual({ status, stderr }, { status: 0, stderr: '' });
}
