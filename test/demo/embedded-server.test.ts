import assert from 'node:assert/strict';
import * as fs from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { EmbeddedServer } from '../../src/demo/embedded-server.js';
import { cleanup, temporaryDirectory } from '../support/cleanup.js';
import { connect, sql, testServer } from '../support/postgres.js';

for (const major of [13, 18] as const) {
  void test(`PostgreSQL ${major} starts, asks for SCRAM, restarts and is adopted`, async (t) => {
    process.env['PGDATA'] = '/nonexistent';
    t.after(() => void delete process.env['PGDATA']);
    const server = await testServer(t, {
      major,
      settings: { work_mem: '5MB', cluster_name: "it's \\ here" },
    });
    assert.equal(server.binaries.major, major);
    const read = `select current_setting('server_version_num')::int / 10000 as major, current_setting('work_mem') as memory,
      current_setting('cluster_name') as name, current_setting('data_checksums') as checksums`;
    const expected = [{ major, memory: '5MB', name: "it's \\ here", checksums: 'on' }];
    assert.deepEqual(await sql(server, read), expected);
    await assert.rejects(connect(server, { password: 'wrong' }), { code: '28P01' });
    const verifiers = await sql(
      server,
      "select rolpassword ~ '^SCRAM-SHA-256' as scram from pg_authid where rolpassword <> ''",
    );
    assert.deepEqual(verifiers, [{ scram: true }]);

    const { port, pid } = server;
    await server.restart();
    assert.equal(server.port, port);
    assert.notEqual(server.pid, pid);
    await server.kill();
    assert.equal(server.pid, undefined);
    await server.start();
    await Promise.all([server.stop('fast'), server.stop('fast')]);
    await server.stop();

    // As a restored backup would be: somebody else's files, in a directory of their own.
    const copy = path.join(await temporaryDirectory(t), 'copy');
    await fs.cp(server.dataDirectory, copy, { recursive: true });
    await fs.chmod(copy, 0o700);
    const { binaries, password } = server;
    const adopted = await EmbeddedServer.adopt({
      binaries,
      dataDirectory: copy,
      password,
      settings: { work_mem: '6MB' },
    });
    cleanup(t, () => adopted[Symbol.asyncDispose]());
    await adopted.start();
    assert.deepEqual(await sql(adopted, 'show work_mem'), [{ work_mem: '6MB' }]);
    await adopted[Symbol.asyncDispose]();
    assert.ok((await fs.stat(copy)).isDirectory());
  });
}

void test('a server that cannot start says why, with its log', async (t) => {
  const server = await testServer(t, { major: 18, start: false });
  await fs.rm(path.join(server.dataDirectory, 'global', 'pg_control'));
  await assert.rejects(
    server.start(),
    /PostgreSQL 18 did not start in .*\n.*status \d+\n[^]*could not find the database system/,
  );
  assert.equal(server.pid, undefined);
});
