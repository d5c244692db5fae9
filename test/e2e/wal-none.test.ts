/* Backups without WAL (-X none): what they need comes from the server's pg_wal, or from its archive. */
import assert from 'node:assert/strict';
import * as fs from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { temporaryDirectory } from '../support/cleanup.js';
import { sql } from '../support/postgres.js';
import { checkRestored, startRestored } from '../support/restored.js';
import { startWorkload } from '../support/workload.js';
import { newTarget, setStage, takeBackup } from './stage.js';

const SEGMENT = /^[0-9A-F]{24}$/;

/** Names of the WAL that a backup has. */
async function walOf(directory: string): Promise<string[]> {
  return (await fs.readdir(path.join(directory, 'pg_wal'))).filter((name) => SEGMENT.test(name));
}

test("with the WAL of its server's pg_wal, a backup without WAL starts", async (t) => {
  const { server, serve } = await setStage(t);
  const workload = await startWorkload(server);
  await workload.waitFor(20);
  const target = await newTarget(t);
  const result = await takeBackup(serve, target, ['-X', 'none', '-v']);
  assert.equal(result.status, 0, result.stderr);
  assert.match(
    result.stderr,
    /^pgconvoy: WAL archiving is not enabled; you must ensure that all required WAL/m,
  );
  const stopLsn = /write-ahead log end point: (\S+)/.exec(result.stderr)?.[1] ?? '';
  await workload.stop();
  assert.deepEqual(await walOf(target), []);
  assert.deepEqual(await fs.readdir(path.join(target, 'pg_wal')), ['archive_status']);

  for (const name of await walOf(server.dataDirectory)) {
    await fs.copyFile(path.join(server.dataDirectory, 'pg_wal', name), path.join(target, 'pg_wal', name));
  }
  const restored = await startRestored(t, { dir: target, origin: server });
  await checkRestored(t, restored, { highestCommitted: workload.committedBy(stopLsn) });
});

for (const major of [13, 15] as const) {
  test(`a backup without WAL of PostgreSQL ${major} waits for the archive, which is all that a restore needs`, async (t) => {
    const place = path.join(await temporaryDirectory(t), 'archive');
    const { server, serve } = await setStage(t, {
      major,
      // a segment has its name when it is whole: the archive is copied while later ones arrive
      settings: {
        archive_mode: 'on',
        archive_command: `cp %p "${place}/%f.new" && mv "${place}/%f.new" "${place}/%f"`,
      },
    });
    await server.makeDirectory(place);
    const workload = await startWorkload(server);
    await workload.waitFor(20);
    const target = await newTarget(t);
    const result = await takeBackup(serve, target, ['-X', 'none', '-v']);
    // taken as soon as the backup ended: it has waited for all of it
    const archive = await copyOf(place, `${place}-then`);
    assert.equal(result.status, 0, result.stderr);
    assert.match(result.stderr, /^pgconvoy: all required WAL segments have been archived$/m);
    const stopLsn = /write-ahead log end point: (\S+)/.exec(result.stderr)?.[1] ?? '';
    await workload.stop();
    const [row] = await sql<{ segment: string }>(server, 'SELECT pg_walfile_name($1) AS segment', [stopLsn]);
    const archived = await fs.readdir(archive);
    assert.ok(archived.includes(row?.segment ?? ''), archived.join(' '));
    assert.deepEqual(await walOf(target), []);

    await fs.writeFile(path.join(target, 'recovery.signal'), '');
    const settings = { restore_command: `cp "${archive}/%f" %p` };
    const restored = await startRestored(t, { dir: target, origin: server, settings });
    await checkRestored(t, restored, { highestCommitted: workload.committedBy(stopLsn) });
  });
}

/** A copy that every account may read. */
async function copyOf(from: string, to: string): Promise<string> {
  await fs.cp(from, to, { recursive: true, filter: (file) => !file.endsWith('.new') });
  await fs.chmod(to, 0o755);
  for (const name of await fs.readdir(to)) await fs.chmod(path.join(to, name), 0o644);
  return to;
}
