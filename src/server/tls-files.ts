/*
 * The certificate and key of `serve`, read once by the primary before it listens. The rules for the key file are
 * check_ssl_key_file_permissions of PostgreSQL's src/backend/libpq/be-secure-common.c.
 */
import { readFile, stat } from 'node:fs/promises';
import { createSecureContext, type SecureContext } from 'node:tls';
import { ConvoyError, fileError } from '../errors.js';

export interface TlsFiles {
  readonly certificateFile: string;
  readonly keyFile: string;
}

/** PEM texts; the key is a secret. */
export interface TlsMaterial {
  readonly certificate: string;
  readonly key: string;
}

/** @throws ConvoyError `serve_refused` for a key that others can read, or a pair that does not fit */
export async function readTlsFiles(files: TlsFiles): Promise<TlsMaterial> {
  await assertPrivate(files.keyFile);
  const [certificate, key] = await Promise.all([read(files.certificateFile), read(files.keyFile)]);
  const material = { certificate, key };
  try {
    secureContext(material);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    const message = `could not load certificate "${files.certificateFile}" with key "${files.keyFile}": ${reason}`;
    throw new ConvoyError('serve_refused', message, { cause: error });
  }
  return material;
}

/** Throws where certificate and key are no pair. */
export function secureContext(material: TlsMaterial): SecureContext {
  return createSecureContext({ cert: material.certificate, key: material.key, minVersion: 'TLSv1.2' });
}

async function assertPrivate(keyFile: string): Promise<void> {
  const stats = await stat(keyFile).catch((error: unknown) => {
    throw fileError('access private key file', keyFile, error);
  });
  if (!stats.isFile()) {
    throw new ConvoyError('serve_refused', `private key file "${keyFile}" is not a regular file`);
  }
  const ownUid = process.geteuid?.();
  if (ownUid === undefined) return;
  if (stats.uid !== ownUid && stats.uid !== 0) {
    throw new ConvoyError(
      'serve_refused',
      `private key file "${keyFile}" must be owned by this user or root`,
    );
  }
  // a key of root's may be readable by a group, for servers that run as other users
  const forbidden = stats.uid === ownUid && ownUid !== 0 ? 0o077 : 0o037;
  if ((stats.mode & forbidden) !== 0) {
    throw new ConvoyError('serve_refused', `private key file "${keyFile}" has group or world access`, {
      hint:
        'it must have permissions u=rw (0600) or less if owned by this user, ' +
        'or permissions u=rw,g=r (0640) or less if owned by root',
    });
  }
}

async function read(file: string): Promise<string> {
  return readFile(file, 'utf8').catch((error: unknown) => {
    throw fileError('read file', file, error);
  });
}
