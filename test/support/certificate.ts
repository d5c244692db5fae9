/* Certificates for servers of tests, made by openssl. */
import assert from 'node:assert/strict';
import * as fs from 'node:fs/promises';
import path from 'node:path';
import { run } from './tools.js';

export const NO_OPENSSL = 'openssl is not installed';

/** False where the machine has none: what needs certificates says so then, and is skipped. */
export async function hasOpenssl(): Promise<boolean> {
  const found = await run('openssl', ['version']).catch(() => undefined);
  return found?.status === 0;
}

/** A self-signed certificate for this host name, and its key. */
export async function certificateFor(
  directory: string,
  host: string,
  ...more: readonly string[]
): Promise<[string, string]> {
  const [certificate, key] = [path.join(directory, 'server.crt'), path.join(directory, 'server.key')];
  const request = ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-subj', `/CN=${host}`];
  const names = ['-addext', `subjectAltName=${[`DNS:${host}`, ...more].join(',')}`];
  const made = await run('openssl', [...request, ...names, '-keyout', key, '-out', certificate]);
  assert.equal(made.status, 0, made.stderr);
  await fs.chmod(key, 0o600);
  return [certificate, key];
}
