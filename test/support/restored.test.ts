/* The proofs that other tests rely on must fail on a bad backup: pg_basebackup's own, first whole, then damaged. */
import assert from 'node:assert/strict';
import * as fs from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { temporaryDirectory } from './cleanup.js';
import { sql, testServer } from './postgres.js';
import { checkRestored, startRestored, verifyBackup } from './restored.js';
import { requireTool, run } from './tools.js';
import { startWorkload } from './workload.js';

void test("pg_basebackup's backup of a server at work passes; damaged, it does not", async (t) => {
  const command = requireTool(t, 'pg_basebackup');
  if (command === undefined) return;
  const server = await testServer(t, { major: 15 });
  const parent = await temporaryDirectory(t);
  const [place, moved] = [path.join(parent, 'space'), path.join(parent, 'space-restored')];
  await sql(server, `create tablespace space location '${await server.makeDirectory(place)}'`);
  const workload = await startWorkload(server, { tablespaces: ['space'] });
  await workload.waitFor(20, 1);
  const dir = path.join(parent, 'backup');
  const flags = [
    '-d',
    server.conninfo,
    '-D',
    dir,
    '-T',
    `${place}=${moved}`,
    '-X',
    'fetch',
    '-c',
    'fast',
    '-N',
  ];
  const result = await run(command, flags);
  assert.equal(result.status, 0, result.stderr);
  await workload.waitFor(20);
  await workload.stop();

  const manifest = await fs.readFile(path.join(dir, 'backup_manifest'), 'utf8');
  const highestCommitted = workload.committedBy(/"End-LSN": "([^"]+)"/.exec(manifest)?.[1] ?? '');
  assert.ok(highestCommitted >= 20 && highestCommitted < workload.committed());
  await verifyBackup(t, dir, 15);

  const [ledger] = await sql<{ file: string }>(server, "select pg_relation_filepath('ledger') as file");
  const file = path.join(dir, ledger?.file ?? '');
  await flipByte(file, 8000);
  await assert.rejects(verifyBackup(t, dir, 15), /checksum mismatch for file/);
  await flipByte(file, 8000);

  const restored = await startRestored(t, { dir, origin: server });
  await checkRestored(t, restored, { highestCommitted });
  await restored.start();
  const missing = { highestCommitted: workload.committed() + 1 };
  await assert.rejects(checkRestored(t, restored, missing), /ledger ends at \d+, \d+ was committed/);

  const text = "select pg_relation_filepath('wandering_pkey') as file";
  const [index] = await sql<{ file: string }>(restored, text);
  await restored.stop();
  await flipByte(path.join(dir, index?.file ?? ''), 8192 + 4000);
  await restored.start();
  await assert.rejects(checkRestored(t, restored, { highestCommitted }), /invalid page|pg_amcheck/);
});

void test('a workload whose server has gone says so when it is stopped', async (t) => {
  const server = await testServer(t, { major: 15 });
  const workload = await startWorkload(server);
  await workload.waitFor(5);
  await server.kill();
  await assert.rejects(workload.waitFor(1_000_000), /the workload failed/);
  await assert.rejects(workload.stop(), /the workload failed/);
});

async function flipByte(file: string, offset: number): Promise<void> {
  const handle = await fs.open(file, 'r+');
  try {
    const byte = Buffer.alloc(1);
    await handle.read(byte, 0, 1, offset);
    byte[0] = (byte[0] ?? 0) ^ 0xff;
    await handle.write(byte, 0, 1, offset);
  } finally {
    await handle.close();
  }
}
