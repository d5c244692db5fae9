/* SEND_BACKUP_FILES where files are damaged, change while they are sent, or are not to be had; rate and cancelling. */
import assert from 'node:assert/strict';
import * as fs from 'node:fs/promises';
import path from 'node:path';
import test, { before } from 'node:test';
import type { EmbeddedServer } from '../../src/demo/embedded-server.js';
import { sql, testServer } from '../support/postgres.js';
import { copyBytes, errorFields, errorOf, flow, packet, RawClient, type RawMessage } from './raw-client.js';
import { tarMembers } from './tar-reading.js';
import { run } from '../support/tools.js';
import { backupClient, createBackupRole, fileScope, testServe, type TestServe } from './test-serve.js';

const scope = fileScope();
const PAGE_BYTES = 8192;
let server: EmbeddedServer;
let serve: TestServe;
/** Of a table of some 100 pages, below the data directory. */
let relation: string;
/** After all changes to that table. */
let lsn: string;

before(async () => {
  server = await testServer(scope, { major: 15, settings: { autovacuum: 'off' } });
  serve = await testServe(scope, server);
  await createBackupRole(server);
  await sql(server, "CREATE TABLE t AS SELECT g, repeat('x', 400) FROM generate_series(1, 2000) g");
  await sql(server, 'CHECKPOINT');
  const [row] = await sql<{ file: string; lsn: string }>(
    server,
    "SELECT pg_relation_filepath('t') AS file, pg_current_wal_insert_lsn()::text AS lsn",
  );
  assert.ok(row);
  relation = row.file;
  lsn = row.lsn;
});

function inData(name: string): string {
  return path.join(server.dataDirectory, name);
}

/** Spoils a byte in the middle of each of these pages; gives back how to make them good. */
async function damage(file: string, blocks: readonly number[]): Promise<() => Promise<void>> {
  const original = await fs.readFile(file);
  const bad = Buffer.from(original);
  for (const block of blocks) {
    const at = block * PAGE_BYTES + 5000;
    bad[at] = (bad[at] ?? 0) ^ 0xff;
  }
  await fs.writeFile(file, bad);
  return () => fs.writeFile(file, original);
}

function notices(answer: readonly RawMessage[]): string[] {
  return answer.filter(({ type }) => type === 'N').map(({ body }) => errorFields(body).message);
}

test('a damaged page is reported after all data, with the warnings of PostgreSQL', async (t) => {
  const client = await backupClient(t, serve);
  const repair = await damage(inData(relation), [3]);
  const bad = await fs.readFile(inData(relation));
  const answer = await client.query(`SEND_BACKUP_FILES ('./${relation}') START_WAL_LOCATION '${lsn}'`);
  const quiet = [
    await client.query(`SEND_BACKUP_FILES ('./${relation}') NOVERIFY_CHECKSUMS START_WAL_LOCATION '${lsn}'`),
    await client.query(`SEND_BACKUP_FILES ('./${relation}')`),
    await client.query(`SEND_BACKUP_FILES ('./${relation}') START_WAL_LOCATION '0/100'`),
  ];
  // no option of a command stays for the next one
  const again = await client.query(`SEND_BACKUP_FILES ('./${relation}') START_WAL_LOCATION '${lsn}'`);
  await repair();
  assert.equal(flow(again), 'Hd*NcEZ');
  assert.equal(flow(answer), 'Hd*NcEZ');
  assert.match(
    notices(answer)[0] ?? '',
    new RegExp(
      `^checksum verification failed in file "\\./${relation}", block 3: calculated [0-9A-F]+ but expected [0-9A-F]+$`,
    ),
  );
  assert.equal(errorOf(answer), 'XX001 ERROR: checksum verification failure during base backup');
  const [member] = await tarMembers(copyBytes(answer));
  assert.ok(member?.content.equals(bad));
  for (const each of quiet) assert.equal(flow(each), 'Hd*cCZ');
  const good = await client.query(`SEND_BACKUP_FILES ('./${relation}') START_WAL_LOCATION '${lsn}'`);
  assert.equal(flow(good), 'Hd*cCZ');
});

test('of many damaged pages five are named, and all are counted', async (t) => {
  const client = await backupClient(t, serve);
  const repair = await damage(inData(relation), [1, 2, 5, 8, 13, 21, 34]);
  const answer = await client.query(`SEND_BACKUP_FILES ('./${relation}') START_WAL_LOCATION '${lsn}'`);
  await repair();
  assert.equal(flow(answer).replaceAll(/N+/g, 'N'), 'Hd*NcNEZ');
  const warnings = notices(answer);
  assert.deepEqual(
    warnings.slice(0, 5).map((warning) => /block (\d+)/.exec(warning)?.[1]),
    ['1', '2', '5', '8', '13'],
  );
  assert.deepEqual(warnings.slice(5), [
    `further checksum verification failures in file "./${relation}" will not be reported`,
    `file "./${relation}" has a total of 7 checksum verification failures`,
    '7 total checksum verification failures',
  ]);
});

/** Reads the answer to a slow command up to the first content, lets the file change, and reads the rest. */
async function sendWhile(
  client: RawClient,
  name: string,
  change: () => Promise<void>,
): Promise<RawMessage[]> {
  client.send('Q', `SEND_BACKUP_FILES ('./${name}') MAX_RATE 2048\0`);
  const answer: RawMessage[] = [];
  while (answer.length < 3) answer.push(await client.next());
  await change();
  answer.push(...(await client.untilReady()));
  return answer;
}

const CHANGING_BYTES = 1024 * 1024;

test('a file that shrinks while it is sent is filled up with zeros', async (t) => {
  const client = await backupClient(t, serve);
  const file = inData('shrinking');
  t.after(() => fs.rm(file, { force: true }));
  await fs.writeFile(file, Buffer.alloc(CHANGING_BYTES, 'x'));
  const answer = await sendWhile(client, 'shrinking', () => fs.truncate(file, CHANGING_BYTES / 2 + 100));
  assert.equal(flow(answer), 'Hd*cCZ');
  const [member] = await tarMembers(copyBytes(answer));
  assert.equal(member?.content.length, CHANGING_BYTES);
  const zerosFrom = member.content.indexOf(0);
  assert.equal(zerosFrom, CHANGING_BYTES / 2 + 100);
  assert.ok(member.content.subarray(zerosFrom).every((byte) => byte === 0));
});

test('a file that grows while it is sent is cut at the size that was announced', async (t) => {
  const client = await backupClient(t, serve);
  const file = inData('growing');
  t.after(() => fs.rm(file, { force: true }));
  await fs.writeFile(file, Buffer.alloc(CHANGING_BYTES, 'x'));
  const answer = await sendWhile(client, 'growing', () =>
    fs.appendFile(file, Buffer.alloc(CHANGING_BYTES, 'y')),
  );
  const [member] = await tarMembers(copyBytes(answer));
  assert.equal(member?.content.length, CHANGING_BYTES);
  assert.ok(member.content.every((byte) => byte === 'x'.codePointAt(0)));
});

test('a file that vanishes while it is sent is sent all the same', async (t) => {
  const client = await backupClient(t, serve);
  const file = inData('vanishing');
  await fs.writeFile(file, Buffer.alloc(CHANGING_BYTES, 'x'));
  const answer = await sendWhile(client, 'vanishing', () => fs.rm(file));
  const [member] = await tarMembers(copyBytes(answer));
  assert.ok(member?.content.every((byte) => byte === 'x'.codePointAt(0)));
});

test('missing files are left out, no list is no COPY, sizes around the buffers are exact', async (t) => {
  const client = await backupClient(t, serve);
  assert.equal(flow(await client.query("SEND_BACKUP_FILES ('./nope')")), 'HcCZ');
  assert.equal(flow(await client.query('SEND_BACKUP_FILES')), 'CZ');
  const sizes = [0, 1, 511, 512, 513, 16_384, 16_385, 524_287, 524_288, 524_289, 1_572_865];
  const names = sizes.map((size) => `size_${size}`);
  t.after(() => Promise.all(names.map((name) => fs.rm(inData(name), { force: true }))));
  const contents = sizes.map((size, index) => Buffer.alloc(size, `content of ${index} `));
  await Promise.all(names.map((name, index) => fs.writeFile(inData(name), contents[index] ?? '')));
  const list = ["'./nope'", ...names.map((name) => `'./${name}'`)].join(', ');
  const answer = await client.query(`SEND_BACKUP_FILES (${list}) START_WAL_LOCATION '${lsn}'`);
  assert.equal(flow(answer), 'Hd*cCZ');
  const members = await tarMembers(copyBytes(answer));
  assert.deepEqual(
    members.map(({ header }) => header.name),
    names,
  );
  for (const [index, { content }] of members.entries())
    assert.ok(content.equals(contents[index] ?? Buffer.alloc(0)));
});

test('many small files come in order, however the writes are put together', async (t) => {
  const client = await backupClient(t, serve);
  const directory = inData('many');
  t.after(() => fs.rm(directory, { recursive: true, force: true }));
  await fs.mkdir(directory);
  const names = Array.from({ length: 2000 }, (_, index) => `many/${index}`);
  for (const name of names) await fs.writeFile(inData(name), name.repeat(200));
  const answer = await client.query(`SEND_BACKUP_FILES (${names.map((name) => `'./${name}'`).join(',')})`);
  const members = await tarMembers(copyBytes(answer));
  assert.deepEqual(
    members.map(({ header }) => header.name),
    names,
  );
  for (const { header, content } of members) assert.equal(content.toString(), header.name.repeat(200));
});

test('names past what tar holds are an error inside COPY; others may hold anything else', async (t) => {
  const client = await backupClient(t, serve);
  const directory = 'd'.repeat(60);
  t.after(() => fs.rm(inData(directory), { recursive: true, force: true }));
  await fs.mkdir(inData(directory));
  const longest = `${directory}/${'x'.repeat(38)}`;
  const odd = `${directory}/it's "ä" \\ 日本`;
  for (const name of [longest, `${longest}y`, odd]) await fs.writeFile(inData(name), 'content');
  const answer = await client.query(`SEND_BACKUP_FILES ('./${longest}', './${odd.replaceAll("'", "''")}')`);
  assert.deepEqual(
    (await tarMembers(copyBytes(answer))).map(({ header }) => header.name),
    [longest, odd],
  );
  const refused = await client.query(`SEND_BACKUP_FILES ('./PG_VERSION', './${longest}y')`);
  assert.equal(flow(refused), 'Hd*EZ');
  assert.equal(errorOf(refused), `XX000 ERROR: file name too long for tar format: "${longest}y"`);
  assert.equal(flow(await client.query("SEND_BACKUP_FILES ('./PG_VERSION')")), 'Hd*cCZ');
});

test('a path that is not served is refused before anything is sent, and the session goes on', async (t) => {
  const client = await backupClient(t, serve);
  for (const asked of ['/etc/passwd', './../x', './postmaster.pid', './pg_wal/000000010000000000000001']) {
    const answer = await client.query(`SEND_BACKUP_FILES ('./PG_VERSION', '${asked}')`);
    assert.equal(flow(answer), 'EZ', asked);
    assert.match(errorOf(answer) ?? '', /^(42501|22023) ERROR: /, asked);
  }
  assert.equal(flow(await client.query("SEND_BACKUP_FILES ('./PG_VERSION')")), 'Hd*cCZ');
});

test('options that are wrong are errors', async (t) => {
  const client = await backupClient(t, serve);
  const cases: readonly (readonly [string, string])[] = [
    ['SEND_BACKUP_FILES ()', '42601'],
    ["SEND_BACKUP_FILES ('./PG_VERSION') MAX_RATE 31", '22003'],
    ["SEND_BACKUP_FILES ('./PG_VERSION') MAX_RATE 1048577", '22003'],
    ["SEND_BACKUP_FILES ('./PG_VERSION') MAX_RATE 32 MAX_RATE 32", '42601'],
    ["SEND_BACKUP_FILES ('./PG_VERSION') START_WAL_LOCATION 'garbage'", '42601'],
    ["SEND_BACKUP_FILES ('./PG_VERSION') FAST", '42601'],
  ];
  for (const [command, sqlState] of cases) {
    const answer = await client.query(command);
    assert.equal(flow(answer), 'EZ', command);
    assert.equal(errorOf(answer)?.slice(0, 5), sqlState, command);
  }
});

test('MAX_RATE holds the rate', async (t) => {
  const client = await backupClient(t, serve);
  const file = inData('paced');
  t.after(() => fs.rm(file, { force: true }));
  await fs.writeFile(file, Buffer.alloc(512 * 1024));
  const start = performance.now();
  await client.query("SEND_BACKUP_FILES ('./paced') MAX_RATE 1024");
  const elapsedMs = performance.now() - start;
  assert.ok(elapsedMs >= 480 && elapsedMs < 3000, `512 kB at 1024 kB/s took ${elapsedMs} ms`);
});

test('a CancelRequest with the right key stops the sending, and the session goes on', async (t) => {
  const client = await backupClient(t, serve);
  const file = inData('slow');
  t.after(() => fs.rm(file, { force: true }));
  await fs.writeFile(file, Buffer.alloc(CHANGING_BYTES));
  client.send('Q', "SEND_BACKUP_FILES ('./slow') MAX_RATE 32\0");
  assert.equal((await client.next()).type, 'H');
  const processId = Buffer.alloc(4);
  processId.writeInt32BE(client.processId);
  const wrong = await RawClient.connect(serve.port);
  wrong.socket.write(packet(80877102, Buffer.concat([processId, Buffer.alloc(4)])));
  assert.deepEqual(await wrong.closed(), []);
  const right = await RawClient.connect(serve.port);
  right.socket.write(packet(80877102, Buffer.concat([processId, client.secretKey])));
  assert.deepEqual(await right.closed(), []);
  const answer = await client.untilReady();
  assert.equal(flow(answer), 'd*EZ');
  assert.equal(errorOf(answer), '57014 ERROR: canceling statement due to user request');
  assert.equal(flow(await client.query("SEND_BACKUP_FILES ('./PG_VERSION')")), 'Hd*cCZ');
});

test('a client that goes away in the middle of a COPY leaves the others alone', async (t) => {
  const client = await backupClient(t, serve);
  const gone = await backupClient(t, serve);
  gone.send('Q', `SEND_BACKUP_FILES ('./${relation}') MAX_RATE 32\0`);
  assert.equal((await gone.next()).type, 'H');
  gone.socket.resetAndDestroy();
  assert.equal(flow(await client.query(`SEND_BACKUP_FILES ('./${relation}')`)), 'Hd*cCZ');
});

test('a link that leads out, and a pipe, bring nothing, and nobody waits', async (t) => {
  const client = await backupClient(t, serve);
  await fs.symlink('/etc/passwd', inData('leads_out'));
  assert.equal((await run('mkfifo', [inData('pipe')])).status, 0);
  for (const asked of ['./leads_out', './pipe']) {
    const answer = await client.query(`SEND_BACKUP_FILES ('./PG_VERSION', '${asked}')`);
    assert.match(flow(answer), /^(Hd\*)?EZ$/, asked);
    assert.ok(errorOf(answer)?.includes(asked), errorOf(answer));
    assert.ok(!copyBytes(answer).includes('root:'));
  }
  assert.equal(flow(await client.query("SEND_BACKUP_FILES ('./PG_VERSION')")), 'Hd*cCZ');
});

test('the numbers of an owner are told whole, as large as containers have them', async (t) => {
  if (process.getuid?.() !== 0) return t.skip('only root can give files away');
  const file = inData('PG_VERSION');
  const { uid, gid } = await fs.stat(file);
  await fs.chown(file, 300_000, 1_000_650_000);
  const client = await backupClient(t, serve);
  try {
    const [member] = await tarMembers(copyBytes(await client.query("SEND_BACKUP_FILES ('./PG_VERSION')")));
    assert.deepEqual([member?.header.uid, member?.header.gid], [300_000, 1_000_650_000]);
  } finally {
    await fs.chown(file, uid, gid);
  }
});
