/*
 * Backups that cannot begin: each ends with one error line that names the thing, and nothing is left of it, here or on the
 * server.
 */
import assert from 'node:assert/strict';
import * as fs from 'node:fs/promises';
import { createServer } from 'node:net';
import { once } from 'node:events';
import { before, test } from 'node:test';
import { fileScope } from '../server/test-serve.js';
import { sql } from '../support/postgres.js';
import {
  assertAbsent,
  assertFailed,
  newTarget,
  setStage,
  takeBackup,
  untilOutOfBackupMode,
  type Address,
  type ExpectedFailure,
  type Stage,
} from './stage.js';

const scope = fileScope();
let stage: Stage;
before(async () => {
  stage = await setStage(scope);
  await sql(
    stage.server,
    `CREATE ROLE no_replication LOGIN PASSWORD 'copy that';
     CREATE ROLE no_login REPLICATION PASSWORD 'copy that';
     CREATE ROLE expired LOGIN REPLICATION PASSWORD 'copy that' VALID UNTIL '2020-01-01'`,
  );
});

interface Case extends ExpectedFailure {
  readonly name: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly extra?: readonly string[];
  /** Where it connects to, unless to serve. */
  readonly address?: () => Promise<Address> | Address;
}

const REFUSED = (user: string): RegExp =>
  new RegExp(
    `^connection to server at "127\\.0\\.0\\.1", port \\d+ failed: FATAL: +password authentication failed for user "${user}"$`,
  );

const CASES: readonly Case[] = [
  { name: 'a wrong password', env: { PGPASSWORD: 'guessed' }, error: REFUSED('backup') },
  { name: 'no password', env: { PGPASSWORD: '' }, error: /failed: fe_sendauth: no password supplied$/ },
  { name: 'an unknown role', env: { PGUSER: 'nobody knows' }, error: REFUSED('nobody knows') },
  { name: 'a role whose password has expired', env: { PGUSER: 'expired' }, error: REFUSED('expired') },
  {
    name: 'a role without REPLICATION',
    env: { PGUSER: 'no_replication' },
    error: /failed: FATAL: +must be superuser or replication role to start walsender$/,
  },
  {
    name: 'a role without REPLICATION, which may not read over SQL either',
    env: { PGUSER: 'no_replication' },
    extra: ['--source=auto'],
    error: /failed: FATAL: +must be superuser or replication role to start walsender$/,
  },
  {
    name: 'a role without LOGIN',
    env: { PGUSER: 'no_login' },
    error: /failed: FATAL: +role "no_login" is not permitted to log in$/,
  },
  {
    name: 'an unknown host',
    address: () => ({ host: 'no-such-host.invalid', port: 5433 }),
    error: /^connection to .* failed: could not translate host name "no-such-host\.invalid" to address: /,
  },
  {
    name: 'a port that nobody listens on',
    address: async () => ({ host: '127.0.0.1', port: await unusedPort() }),
    error: /^connection to server at "127\.0\.0\.1", port \d+ failed: Connection refused$/,
    hint: /is the server running on that host and accepting TCP\/IP connections\?$/,
  },
  {
    name: 'a socket directory without a socket',
    address: () => ({ host: '/tmp', port: 65_000 }),
    error: /^connection to server on socket "\/tmp\/\.s\.PGSQL\.65000" failed: No such file or directory$/,
    hint: /is the server running locally and accepting connections on that socket\?$/,
  },
  {
    name: 'a server that has no parallel commands',
    address: () => stage.server,
    error: /^server at "127\.0\.0\.1", port \d+ does not know the parallel backup commands$/,
    hint: /"pgconvoy serve"/,
  },
  {
    name: 'serve without TLS, which is asked for',
    env: { PGSSLMODE: 'require' },
    error: /failed: .*server does not support SSL/i,
  },
];

for (const { name, env = {}, extra = [], address = () => stage.serve, ...expected } of CASES) {
  test(`${name} is one clear error`, async (t) => {
    const target = await newTarget(t);
    assertFailed(await takeBackup(await address(), target, extra, env), expected);
    await assertAbsent(target);
    await untilOutOfBackupMode(stage.server);
  });
}

test('a directory that was there before is left as it was', async (t) => {
  const target = await newTarget(t);
  await fs.mkdir(target, { mode: 0o750 });
  const found = await fs.stat(target);
  const result = await takeBackup(stage.serve, target, [], { PGPASSWORD: 'guessed' });
  assertFailed(result, { error: REFUSED('backup') });
  const left = await fs.stat(target);
  assert.deepEqual([left.ino, left.mode, left.mtimeMs], [found.ino, found.mode, found.mtimeMs]);
});

const USAGE: readonly (readonly [args: readonly string[], error: RegExp])[] = [
  [['-X', 'streams'], /invalid wal-method option "streams"/],
  [['--format=x'], /invalid output format "x", must be "plain" or "tar"/],
  [['--nonsense'], /unrecognized option '--nonsense'/],
  [['-j', '0'], /-j\/--jobs must be in range 1\.\.512/],
  [['-r', '31k'], /transfer rate "31k" is out of range/],
  [['--manifest-checksums', 'md5'], /unrecognized checksum algorithm: "md5"/],
  [['--no-manifest', '--manifest-checksums', 'none'], /incompatible options/],
  [['-T', 'here=/there'], /old directory is not an absolute path/],
  [['-l', 'two\nlines'], /a label is one line/],
  [['extra'], /too many command-line arguments/],
];

for (const [args, error] of USAGE) {
  test(`${args.join(' ').replace('\n', String.raw`\n`)} is refused before anything is done`, async (t) => {
    const target = await newTarget(t);
    const result = await takeBackup(stage.serve, target, args);
    assert.equal(result.status, 1);
    assert.match(result.stderr, error);
    assert.match(result.stderr, /^pgconvoy: error: [^\n]+\n(?:pgconvoy: hint: [^\n]+\n)+$/);
    await assertAbsent(target);
  });
}

async function unusedPort(): Promise<number> {
  const listener = createServer().listen(0, '127.0.0.1');
  await once(listener, 'listening');
  const address = listener.address();
  await new Promise((resolve) => listener.close(resolve));
  return typeof address === 'object' ? (address?.port ?? 0) : 0;
}
