/*
 * How `pgconvoy backup` is told where to connect: connection strings, the environment, service and password files as in
 * libpq, and TLS that is verified to the end.
 */
import assert from 'node:assert/strict';
import * as fs from 'node:fs/promises';
import path from 'node:path';
import { before, test, type TestContext } from 'node:test';
import { fileScope } from '../server/test-serve.js';
import { temporaryDirectory } from '../support/cleanup.js';
import { pgconvoy, startServe, type Serve } from '../support/pgconvoy.js';
import { certificateFor, hasOpenssl, NO_OPENSSL } from '../support/certificate.js';
import type { RunResult } from '../support/tools.js';
import { assertAbsent, assertFailed, BACKUP_ENVIRONMENT, newTarget, setStage, type Stage } from './stage.js';

const { PGUSER, PGPASSWORD } = BACKUP_ENVIRONMENT;

const scope = fileScope();
let stage: Stage;
before(async () => {
  stage = await setStage(scope);
});

/** A backup that is told nothing of a connection but this; in a home directory where nothing is. */
async function backupWith(
  t: TestContext,
  target: string,
  args: readonly string[],
  env: Readonly<Record<string, string>>,
): Promise<RunResult> {
  const HOME = await temporaryDirectory(t);
  return pgconvoy(['backup', '-D', target, '-c', 'fast', '-N', '-w', ...args], {
    env: { HOME, ...env },
    timeoutMs: 60_000,
  });
}

async function secretFile(t: TestContext, name: string, text: string): Promise<string> {
  const file = path.join(await temporaryDirectory(t), name);
  await fs.writeFile(file, text, { mode: 0o600 });
  return file;
}

interface Way {
  readonly name: string;
  readonly args?: (serve: Serve) => string[];
  readonly env: (t: TestContext, serve: Serve) => Promise<Record<string, string>> | Record<string, string>;
}

const WAYS: readonly Way[] = [
  {
    name: 'a keyword connection string',
    args: ({ port }) => [
      '-d',
      `host=127.0.0.1 port=${port} user=${PGUSER} password='${PGPASSWORD}' sslmode=disable`,
    ],
    env: () => ({}),
  },
  {
    name: 'a URI, which wins over the environment',
    args: ({ port }) => ['-d', `postgresql://${PGUSER}@127.0.0.1:${port}/?application_name=night`],
    env: () => ({ PGPASSWORD, PGUSER: 'somebody else', PGPORT: '1', PGHOST: 'no-such-host.invalid' }),
  },
  {
    name: 'the environment alone',
    env: (_t, { host, port }) => ({ PGHOST: host, PGPORT: String(port), PGUSER, PGPASSWORD }),
  },
  {
    name: 'options, which win over a connection string',
    args: ({ host, port }) => [
      '-d',
      'host=no-such-host.invalid port=1',
      '-h',
      host,
      '-p',
      String(port),
      '-U',
      PGUSER,
    ],
    env: () => ({ PGPASSWORD }),
  },
  {
    name: 'a service, and a password file whose line is for replication',
    args: () => ['-d', 'service=convoy'],
    env: async (t, { host, port }) => ({
      PGSERVICEFILE: await secretFile(
        t,
        'services',
        `[convoy]\nhost=${host}\nport=${port}\nuser=${PGUSER}\n`,
      ),
      PGPASSFILE: await secretFile(
        t,
        'passwords',
        `# the first line that fits counts\n*:*:postgres:*:wrong\n${host}:${port}:replication:${PGUSER}:${PGPASSWORD}\n`,
      ),
    }),
  },
];

for (const { name, args = () => [], env } of WAYS) {
  test(`the server is found by ${name}`, async (t) => {
    const target = await newTarget(t);
    const given = await env(t, stage.serve);
    const result = await backupWith(t, target, ['--source=walsender', ...args(stage.serve)], given);
    assert.equal(result.status, 0, result.stderr);
    assert.equal(result.stderr, '');
  });
}

test('a password file that others may read is not used, and a warning says so', async (t) => {
  const { host, port } = stage.serve;
  const PGPASSFILE = await secretFile(t, 'passwords', `*:*:*:*:${PGPASSWORD}\n`);
  await fs.chmod(PGPASSFILE, 0o644);
  const target = await newTarget(t);
  const result = await backupWith(t, target, ['-h', host, '-p', String(port), '-U', PGUSER], { PGPASSFILE });
  assertFailed(result, { error: /no password supplied$/ });
  assert.match(result.stderr, /^pgconvoy: warning: password file "[^"]+" has group or world access/m);
  await assertAbsent(target);
});

test('sslmode=verify-full knows its server from any other', async (t) => {
  if (!(await hasOpenssl())) return t.skip(NO_OPENSSL);
  const directory = await temporaryDirectory(t);
  const [certificate, key] = await certificateFor(directory, 'localhost');
  const [stranger] = await certificateFor(await temporaryDirectory(t), 'localhost');
  const serve = await startServe(t, stage.server, ['--tls-cert', certificate, '--tls-key', key]);
  const verified = { PGUSER, PGPASSWORD, PGSSLMODE: 'verify-full', PGSSLROOTCERT: certificate };
  const args = (host: string): string[] => [
    '--source=walsender',
    '-h',
    host,
    '-p',
    String(serve.port),
    '-j',
    '2',
  ];

  const target = await newTarget(t);
  const result = await backupWith(t, target, args('localhost'), verified);
  assert.equal(result.status, 0, result.stderr);

  const refused = await newTarget(t);
  assertFailed(await backupWith(t, refused, args('127.0.0.1'), verified), {
    error:
      /^connection to server at "127\.0\.0\.1", port \d+ failed: server certificate for "DNS:localhost" does not match host name "127\.0\.0\.1"$/,
  });
  assertFailed(await backupWith(t, refused, args('localhost'), { ...verified, PGSSLROOTCERT: stranger }), {
    error: /^connection to server at "localhost", port \d+ failed: .*certificate/,
  });
  assertFailed(
    await backupWith(t, refused, args('localhost'), { ...verified, PGSSLROOTCERT: '/no/such/file' }),
    {
      error: /root certificate file "\/no\/such\/file" does not exist$/,
      hint: /sslrootcert=system/,
    },
  );
  await assertAbsent(refused);
});
