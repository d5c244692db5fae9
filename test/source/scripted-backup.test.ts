/* Whole backups of scripted servers: honest ones first, then those that fail, break, or have oddities that are no failure. */
import assert from 'node:assert/strict';
import * as fs from 'node:fs/promises';
import path from 'node:path';
import { describe, test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { ConvoyError } from '../../src/errors.js';
import { formatLsn } from '../../src/lsn.js';
import {
  assertComplete,
  EVERY_STEP,
  failureOf,
  FILES,
  LIMIT,
  makeSandbox,
  runBackup,
  spoilAt,
  STOP,
} from '../support/scripted-backup.js';
import { copy, pathsIn, SEGMENT_NAME, START_LSN, STOP_LSN, tarMembers } from '../support/scripted-cluster.js';
import {
  COMPLETE,
  errorMessage,
  notice,
  READY,
  ScriptedServer,
  welcome,
} from '../support/scripted-server.js';

describe('an honest server', LIMIT, () => {
  for (const jobs of [1, 3]) {
    test(`is backed up over ${jobs} connections`, async (t) => {
      const { cluster, directory } = await makeSandbox(t);
      const server = await ScriptedServer.listen(t, cluster.script());
      const report = await runBackup(server, directory, { jobs, sync: jobs === 3 }).outcome;
      assert.equal(formatLsn(report.startLsn), START_LSN);
      assert.equal(formatLsn(report.stopLsn), STOP_LSN);
      const { timeline, vanishedFiles, retries, hasBadPages, source, phases } = report;
      assert.deepEqual(
        [timeline, vanishedFiles, retries, hasBadPages, source],
        [1, 0, 0, false, 'walsender'],
      );
      assert.deepEqual(
        phases.map(({ phase }) => phase),
        ['open', 'start', 'list', 'copy', 'stop', 'sync'],
      );
      await assertComplete(cluster, directory);
    });
  }
});
describe('a backup that fails', LIMIT, () => {
  test('leaves what was made with keepOnFailure, but no manifest', async (t) => {
    const { cluster, directory } = await makeSandbox(t);
    const server = await ScriptedServer.listen(
      t,
      cluster.script((command, session) => spoilAt(STOP, command, () => session.end())),
    );
    const error = await failureOf(runBackup(server, directory, { keepOnFailure: true }).outcome);
    assert.equal(error.code, 'connection_lost');
    const names = await fs.readdir(directory);
    assert.ok(names.includes('PG_VERSION'));
    assert.ok(!names.includes('backup_manifest') && !names.includes('backup_label'));
    assert.ok(!(await fs.readdir(path.join(directory, 'global'))).includes('pg_control'));
  });

  test('leaves an empty directory that was there, and tablespace directories that were', async (t) => {
    const sandbox = await makeSandbox(t);
    await fs.mkdir(sandbox.directory);
    await fs.mkdir(sandbox.cluster.tablespace);
    const before = await sandbox.snapshot();
    const script = sandbox.cluster.script((command, session) =>
      spoilAt(FILES, command, () => session.reset()),
    );
    const server = await ScriptedServer.listen(t, script);
    const error = await failureOf(runBackup(server, sandbox.directory).outcome);
    assert.equal(error.code, 'connection_lost');
    assert.deepEqual(await sandbox.snapshot(), before);
  });

  test('asks nothing of the server where the target is not empty', async (t) => {
    const sandbox = await makeSandbox(t);
    await fs.mkdir(sandbox.directory);
    await fs.writeFile(path.join(sandbox.directory, 'mine'), 'mine');
    const before = await sandbox.snapshot();
    const server = await ScriptedServer.listen(t, sandbox.cluster.script());
    const error = await failureOf(runBackup(server, sandbox.directory).outcome);
    assert.equal(error.code, 'target_refused');
    assert.equal(server.sessions.length, 0);
    assert.deepEqual(await sandbox.snapshot(), before);
  });

  test('touches nothing where a tablespace directory is not empty', async (t) => {
    const sandbox = await makeSandbox(t);
    await fs.mkdir(sandbox.cluster.tablespace);
    await fs.writeFile(path.join(sandbox.cluster.tablespace, 'mine'), 'mine');
    const before = await sandbox.snapshot();
    const server = await ScriptedServer.listen(t, sandbox.cluster.script());
    const error = await failureOf(runBackup(server, sandbox.directory).outcome);
    assert.equal(error.code, 'target_refused');
    assert.deepEqual(await sandbox.snapshot(), before);
  });

  for (const [name, on] of EVERY_STEP) {
    test(`is cancelled ${name} at once`, async (t) => {
      const sandbox = await makeSandbox(t);
      const before = await sandbox.snapshot();
      const controller = new AbortController();
      const reason = new ConvoyError('cancelled', 'interrupted by SIGINT');
      // the server falls silent
      const script = sandbox.cluster.script((command) =>
        spoilAt(on, command, () => controller.abort(reason)),
      );
      const server = await ScriptedServer.listen(t, script);
      const { outcome } = runBackup(server, sandbox.directory, { jobs: 2 }, controller.signal);
      const started = performance.now();
      assert.equal(await failureOf(outcome), reason);
      assert.ok(performance.now() - started < 5000);
      assert.deepEqual(await sandbox.snapshot(), before);
      assert.ok(server.sessions.every((session) => session.closed));
    });
  }
});

describe('a backup at the lowest rate', LIMIT, () => {
  test('is cancelled at once, too', async (t) => {
    const sandbox = await makeSandbox(t);
    const before = await sandbox.snapshot();
    const controller = new AbortController();
    const script = sandbox.cluster.script(async (command, session) => {
      if (!STOP.test(command)) return false;
      // more WAL than a minute can take
      await session.write((await sandbox.cluster.answer(command)).subarray(0, 600_000));
      return true;
    });
    const server = await ScriptedServer.listen(t, script);
    const options = { maxRateBytesPerSecond: 10_000, wal: 'fetch' } as const;
    sandbox.cluster.files.clear();
    const { outcome } = runBackup(server, sandbox.directory, options, controller.signal);
    const failure = failureOf(outcome);
    const written = path.join(sandbox.directory, 'pg_wal', SEGMENT_NAME);
    while ((await fs.stat(written).catch(() => ({ size: 0 }))).size === 0) await nextTurn();
    controller.abort(new ConvoyError('cancelled', 'interrupted by SIGINT'));
    assert.equal((await failure).code, 'cancelled');
    assert.deepEqual(await sandbox.snapshot(), before);
  });
});
describe('a connection that breaks while files are copied', LIMIT, () => {
  test('is opened anew, and its files are written anew', async (t) => {
    const { cluster, directory } = await makeSandbox(t);
    let broken = 0;
    const script = cluster.script(async (command, session) => {
      if (!FILES.test(command) || broken === 3) return false;
      broken += 1;
      const whole = await cluster.answer(command);
      await session.write(whole.subarray(0, 20_000 * broken));
      if (broken === 2) session.reset();
      else session.end();
      return true;
    });
    const server = await ScriptedServer.listen(t, script);
    const report = await runBackup(server, directory).outcome;
    assert.equal(report.retries, 3);
    await assertComplete(cluster, directory);
  });

  test('that is the coordinator’s own ends the backup, while workers still copy', async (t) => {
    const sandbox = await makeSandbox(t);
    const before = await sandbox.snapshot();
    const script = sandbox.cluster.script((command) =>
      spoilAt(FILES, command, () => server.sessions[0]?.reset()),
    );
    const server: ScriptedServer = await ScriptedServer.listen(t, script);
    const error = await failureOf(runBackup(server, sandbox.directory).outcome);
    assert.equal(error.code, 'connection_lost');
    assert.deepEqual(await sandbox.snapshot(), before);
  });
});

describe('oddities that are no failure', LIMIT, () => {
  test('files that vanish are counted, and are in neither target nor manifest', async (t) => {
    const { cluster, directory } = await makeSandbox(t);
    const gone = './base/1/112';
    const script = cluster.script(async (command, session) => {
      if (!FILES.test(command)) return false;
      await session.write(
        copy(
          await tarMembers(cluster.members(pathsIn(command).filter((name) => name !== gone))),
          COMPLETE,
          READY,
        ),
      );
      return true;
    });
    const server = await ScriptedServer.listen(t, script);
    const report = await runBackup(server, directory, { sync: true }).outcome;
    assert.equal(report.vanishedFiles, 1);
    await assert.rejects(fs.stat(path.join(directory, gone)), { code: 'ENOENT' });
    assert.ok(!(await fs.readFile(path.join(directory, 'backup_manifest'), 'utf8')).includes('base/1/112'));
  });

  test('damaged pages are copied, warned of and reported', async (t) => {
    const { cluster, directory } = await makeSandbox(t);
    const warning =
      'checksum verification failed in file "./base/1/112", block 0: calculated 1 but expected 2';
    const script = cluster.script(async (command, session) => {
      if (!FILES.test(command)) return false;
      const stream = copy(await tarMembers(cluster.members(pathsIn(command))));
      await session.write(
        stream,
        notice(warning),
        errorMessage('XX001', 'checksum verification failure during base backup'),
        READY,
      );
      return true;
    });
    const server = await ScriptedServer.listen(t, script);
    const run = runBackup(server, directory);
    const report = await run.outcome;
    assert.equal(report.hasBadPages, true);
    assert.deepEqual([...new Set(run.warnings)], [warning]);
    await assertComplete(cluster, directory);
  });

  test('a welcome of a version that is too old is refused by its number', async (t) => {
    const sandbox = await makeSandbox(t);
    const server = await ScriptedServer.listen(t, {
      ...sandbox.cluster.script(),
      startup: (session) => session.write(welcome({ server_version: '12.22' })),
    });
    const error = await failureOf(runBackup(server, sandbox.directory).outcome);
    assert.equal(error.code, 'server_unsupported');
    assert.match(error.message, /12\.22/);
  });
});
