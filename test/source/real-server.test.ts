/*
 * Every source keeps to the contract on one real server at rest: the sql source as superuser and as a role that has nothing
 * but the grants, the walsender source through `pgconvoy serve`. And they list the same.
 */
import assert from 'node:assert/strict';
import * as fs from 'node:fs/promises';
import path from 'node:path';
import { before, test } from 'node:test';
import type { EmbeddedServer } from '../../src/demo/embedded-server.js';
import type { RunningServe } from '../../src/server/serve.js';
import { neededFunctions } from '../../src/source/sql-grants.js';
import type { BackupSource, FileList } from '../../src/source/source.js';
import { SqlReader } from '../../src/source/sql-reader.js';
import { SqlSource } from '../../src/source/sql-source.js';
import { WalsenderReader } from '../../src/source/walsender-reader.js';
import { WalsenderSource } from '../../src/source/walsender-source.js';
import type { ConnectionSettings } from '../../src/wire/conninfo.js';
import { sourceContract, type SourceSetup } from '../contract/source-contract.js';
import { fileScope, settingsOf, startListening } from '../server/test-serve.js';
import { cleanup, temporaryDirectory } from '../support/cleanup.js';
import { sql, testServer } from '../support/postgres.js';

const PASSWORD = 'copy that';
const DAMAGED_BLOCK = 3;

const scope = fileScope();
let server: EmbeddedServer;
let serve: RunningServe;
let damagedPath: string;

before(async () => {
  server = await testServer(scope, { major: 15, settings: { autovacuum: 'off', checkpoint_timeout: '1h' } });
  const place = await server.makeDirectory(path.join(await temporaryDirectory(scope), 'space'));
  const grants = neededFunctions(15).map((name) => `GRANT EXECUTE ON FUNCTION ${name} TO least;`);
  await sql(server, `CREATE ROLE least LOGIN PASSWORD '${PASSWORD}'; ${grants.join(' ')}`);
  await sql(server, `CREATE ROLE replicator LOGIN REPLICATION PASSWORD '${PASSWORD}'`);
  await sql(server, `CREATE TABLESPACE space LOCATION '${place}'`);
  await sql(server, 'CREATE TABLE far TABLESPACE space AS SELECT n FROM generate_series(1, 1000) n');
  await sql(server, 'CREATE UNLOGGED TABLE passing AS SELECT n FROM generate_series(1, 1000) n');
  const filler = 'SELECT repeat(md5(n::text), 30) AS filler FROM generate_series(1, 30000) n';
  await sql(server, `CREATE TABLE large AS ${filler}; CREATE TABLE damaged AS ${filler} LIMIT 100`);
  const [row] = await sql<{ path: string }>(server, "SELECT pg_relation_filepath('damaged') AS path");
  damagedPath = row?.path ?? '';
  await server.stop();
  const handle = await fs.open(path.join(server.dataDirectory, damagedPath), 'r+');
  await handle.write(Buffer.alloc(64, 0x5a), 0, 64, DAMAGED_BLOCK * 8192 + 4000);
  await handle.close();
  await server.start();
  serve = await startListening(server, {});
  cleanup(scope, () => serve.stop());
});

let connections = 0;

/** Each with a name of its own, by which the server finds it. */
function newName(): string {
  connections += 1;
  return `contract ${connections}`;
}

function setupOf(
  source: BackupSource,
  rest: Pick<SourceSetup, 'openReader' | 'dropConnection'>,
): SourceSetup {
  return {
    ...rest,
    source,
    damaged: { target: damagedPath, block: DAMAGED_BLOCK },
    contentOf: ({ target }) => fs.readFile(path.join(server.dataDirectory, target)),
  };
}

async function terminate(where: string): Promise<void> {
  await sql(server, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE ${where}`);
}

/** But for what a server may say to a session that it ends. */
function failOnWarning(message: string, severity: string): void {
  if (severity !== 'NOTICE' && !message.startsWith('aborting backup due to backend exiting')) {
    assert.fail(message);
  }
}

async function openSql(settings: ConnectionSettings): Promise<SourceSetup> {
  const applicationName = newName();
  const options = { applicationName, askPassword: undefined, jobs: 1, wal: 'fetch' } as const;
  const source = await SqlSource.open(settings, options, failOnWarning);
  const { fileMode, dataChecksums } = source;
  return setupOf(source, {
    openReader: () => SqlReader.open(settings, { applicationName: 'reader', fileMode, dataChecksums }),
    dropConnection: () => terminate(`application_name = '${applicationName}'`),
  });
}

async function openWalsender(): Promise<SourceSetup> {
  assert.ok(serve.address.kind === 'tcp');
  const { port } = serve.address;
  const settings: ConnectionSettings = {
    ...settingsOf(server),
    port,
    user: 'replicator',
    password: PASSWORD,
  };
  const options = { applicationName: newName(), askPassword: undefined };
  const source = await WalsenderSource.open(settings, options, failOnWarning);
  return setupOf(source, {
    openReader: () => WalsenderReader.open(settings, { applicationName: 'reader' }),
    dropConnection: () => terminate("application_name = 'pgconvoy serve' AND query ~ 'log_timezone'"),
  });
}

const asSuperuser = (): Promise<SourceSetup> => openSql(settingsOf(server));
const asLeastPrivileged = (): Promise<SourceSetup> =>
  openSql({ ...settingsOf(server), user: 'least', password: PASSWORD });

sourceContract('the sql source, as superuser', asSuperuser);
sourceContract('the sql source, as a role with nothing but the grants', asLeastPrivileged);
sourceContract('the walsender source, through serve', openWalsender);

test('all list the same files and directories', async () => {
  const lists: object[] = [];
  for (const open of [asSuperuser, asLeastPrivileged, openWalsender]) {
    const { source } = await open();
    try {
      await source.start({ label: 'list', fastCheckpoint: true, includeWal: false });
      lists.push(comparable(await source.list()));
    } finally {
      source.destroy();
    }
  }
  assert.deepEqual(lists[1], lists[0]);
  assert.deepEqual(lists[2], lists[0]);
});

/** Without the names to ask by, owners, and the order of directories, which are the sources' own. */
function comparable({ files, directories }: FileList): object {
  const byTarget = (a: { target: string }, b: { target: string }): number => (a.target < b.target ? -1 : 1);
  return {
    files: files.map(({ target, size, tablespace }) => ({ target, size, tablespace })).toSorted(byTarget),
    directories: directories.map(({ target, mode }) => ({ target, mode })).toSorted(byTarget),
  };
}
