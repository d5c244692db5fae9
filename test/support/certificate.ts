/* Certificates for servers of tests, made by openssl. */
import assert from 'node:assert/strict';
import * as fs from 'node:fs/promises';
import path from 'node:path';
import { run } from './tools.js';

/** A self-signed certificate for this host name, and its key. */
export async function certificateFor(directory: string, host: string): Promise<[string, string]> {
  const [certificate, key] = [path.join(directory, 'server.crt'), path.join(directory, 'server.key')];
  const request = ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-subj', `/CN=${host}`];
  const names = ['-addext', `subjectAltName=DNS:${host}`];
  const made = await run('openssl', [...request, ...names, '-keyout', key, '-out', certificate]);
  assert.equal(made.status, 0, made.stderr);
  await fs.chmod(key, 0o600);
  return [certificate, key];
}
