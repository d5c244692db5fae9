/*
 * Turns sslmode and the certificate files into the connection attempts that libpq would make, with the options
 * for node:tls. Called in the thread that connects (the options hold functions, which cannot be cloned) by
 * connection.ts. After initialize_SSL and pq_verify_peer_name_matches_certificate of
 * src/interfaces/libpq/fe-secure-openssl.c and fe-secure-common.c.
 */
import { createPrivateKey, X509Certificate, type KeyObject } from 'node:crypto';
import { readFileSync, statSync, type Stats } from 'node:fs';
import { isIP } from 'node:net';
import { join } from 'node:path';
import { createSecureContext, type ConnectionOptions } from 'node:tls';
import { assertNever } from '../assert-never.js';
import { ConvoyError, fileError, isSystemError } from '../errors.js';
import { isUnixSocket, type ConnectionSettings } from './conninfo.js';

/** One way to try. The next one is tried where this one fails before the login is complete. */
export type TlsAttempt =
  { readonly kind: 'plain' } | { readonly kind: 'tls'; readonly ssl: ConnectionOptions };

const PLAIN: TlsAttempt = { kind: 'plain' };
/** How far the server's certificate is checked. */
type Verification = 'none' | 'chain' | 'chain-and-name';

/**
 * The attempts in the order of trying them. Reads the certificate files that TLS attempts need.
 *
 * Unlike libpq, `prefer` and `allow` do not verify the certificate even where root.crt exists: libpq does, and
 * goes on in plain text when that fails, which protects nobody.
 *
 * @throws ConvoyError `connection_settings` in libpq's words, naming the file that is missing or unusable
 */
export function tlsAttempts(settings: ConnectionSettings): readonly TlsAttempt[] {
  if (isUnixSocket(settings)) return [PLAIN];
  switch (settings.sslmode) {
    case 'disable':
      return [PLAIN];
    case 'allow':
      return [PLAIN, tlsAttempt(settings, 'none')];
    case 'prefer':
      return [tlsAttempt(settings, 'none'), PLAIN];
    case 'require':
      // With a root certificate at hand it is the same as verify-ca, for compatibility with old libpq.
      return [tlsAttempt(settings, rootCertificateExists(settings) ? 'chain' : 'none')];
    case 'verify-ca':
      return [tlsAttempt(settings, 'chain')];
    case 'verify-full':
      return [tlsAttempt(settings, 'chain-and-name')];
    default:
      return assertNever(settings.sslmode);
  }
}

function tlsAttempt(settings: ConnectionSettings, verification: Verification): TlsAttempt {
  const { host, sslMinProtocolVersion, sslMaxProtocolVersion } = settings;
  return {
    kind: 'tls',
    ssl: {
      minVersion: sslMinProtocolVersion,
      ...(sslMaxProtocolVersion === undefined ? {} : { maxVersion: sslMaxProtocolVersion }),
      // SNI; never an address (RFC 6066 section 3).
      ...(isIP(host) === 0 && !host.startsWith('/') ? { servername: host } : {}),
      ...clientCertificate(settings),
      ...serverVerification(settings, verification),
    },
  };
}

function fail(message: string, details: { hint?: string; cause?: unknown } = {}): never {
  throw new ConvoyError('connection_settings', message, details);
}

/** A file of the user's ~/.postgresql, undefined where there is no home directory. */
function defaultFile(settings: ConnectionSettings, name: string): string | undefined {
  return settings.homeDirectory === '' ? undefined : join(settings.homeDirectory, '.postgresql', name);
}

function rootCertificateFile(settings: ConnectionSettings): string | undefined {
  return settings.sslrootcert ?? defaultFile(settings, 'root.crt');
}

function rootCertificateExists(settings: ConnectionSettings): boolean {
  const file = rootCertificateFile(settings);
  return file !== undefined && statFile(file) !== undefined;
}

/** Undefined where stat() fails for any reason. */
function statFile(path: string): Stats | undefined {
  try {
    return statSync(path);
  } catch {
    return undefined;
  }
}

function serverVerification(settings: ConnectionSettings, verification: Verification): ConnectionOptions {
  if (verification === 'none') return { rejectUnauthorized: false };
  const checks: ConnectionOptions = {
    rejectUnauthorized: true,
    checkServerIdentity:
      verification === 'chain'
        ? () => undefined
        : (_name, peer) => checkServerName(settings.host, new X509Certificate(peer.raw)),
  };
  // Node.js's own list of authorities, which it takes where `ca` is absent.
  if (settings.sslrootcert === 'system') return checks;

  const file = rootCertificateFile(settings);
  const hint =
    "either provide the file, use the system's trusted roots with sslrootcert=system, " +
    'or change sslmode to disable server certificate verification';
  if (file === undefined) fail('could not get home directory to locate root certificate file', { hint });
  if (statFile(file) === undefined) fail(`root certificate file "${file}" does not exist`, { hint });
  const ca = readPem(file, 'root certificate file', (pem) => new X509Certificate(pem));
  return { ...checks, ca, ...revocationList(settings) };
}

/** libpq ignores a list that it cannot read; here that goes for the default one only, and only if absent. */
function revocationList(settings: ConnectionSettings): ConnectionOptions {
  const file = settings.sslcrl ?? defaultFile(settings, 'root.crl');
  if (file === undefined) return {};
  if (settings.sslcrl === undefined && statFile(file) === undefined) return {};
  return { crl: readPem(file, 'certificate revocation list file', (crl) => createSecureContext({ crl })) };
}

function readPem(path: string, what: string, parse: (content: Buffer) => unknown): Buffer {
  let content: Buffer;
  try {
    content = readFileSync(path);
  } catch (thrown) {
    return fail(fileError(`read ${what}`, path, thrown).message, { cause: thrown });
  }
  try {
    parse(content);
  } catch (thrown) {
    fail(`could not read ${what} "${path}": ${reason(thrown)}`, { cause: thrown });
  }
  return content;
}

/** The words of OpenSSL's `error:0480006C:PEM routines::no start line`. */
function reason(thrown: unknown): string {
  const message = thrown instanceof Error ? thrown.message : String(thrown);
  return /^error:[0-9A-F]+:[^:]*:[^:]*:(.+)$/.exec(message)?.[1] ?? message;
}

/** Certificate and key, or nothing where there is no certificate file: the server may do without. */
function clientCertificate(settings: ConnectionSettings): ConnectionOptions {
  const file = settings.sslcert ?? defaultFile(settings, 'postgresql.crt');
  if (settings.sslcertmode === 'disable' || file === undefined) return {};
  try {
    statSync(file);
  } catch (thrown) {
    if (isSystemError(thrown, 'ENOENT') || isSystemError(thrown, 'ENOTDIR')) return {};
    fail(fileError('open certificate file', file, thrown).message, { cause: thrown });
  }
  const cert = readPem(file, 'certificate file', (pem) => new X509Certificate(pem));

  const keyFile = settings.sslkey ?? defaultFile(settings, 'postgresql.key');
  if (keyFile === undefined) fail(`certificate "${file}" present, but no private key file`);
  const key = readPrivateKey(keyFile, settings.sslpassword);
  if (!new X509Certificate(cert).checkPrivateKey(key)) {
    fail(`certificate does not match private key file "${keyFile}"`);
  }
  return { cert, key: key.export({ type: 'pkcs8', format: 'pem' }) };
}

function readPrivateKey(path: string, passphrase: string | undefined): KeyObject {
  checkPrivateKeyFile(path);
  let content: Buffer;
  try {
    content = readFileSync(path);
  } catch (thrown) {
    return fail(fileError('load private key file', path, thrown).message, { cause: thrown });
  }
  const secret = passphrase === undefined ? {} : { passphrase };
  try {
    return createPrivateKey({ key: content, format: 'pem', ...secret });
  } catch (pemError) {
    // As libpq: DER is tried next, and what was wrong with the PEM is told where that fails too.
    for (const type of ['pkcs8', 'pkcs1', 'sec1'] as const) {
      try {
        return createPrivateKey({ key: content, format: 'der', type, ...secret });
      } catch {
        continue;
      }
    }
    return fail(`could not load private key file "${path}": ${reason(pemError)}`, { cause: pemError });
  }
}

/** A key that others may read is refused; one of root's may be readable for a group. */
function checkPrivateKeyFile(path: string): void {
  let status: Stats;
  try {
    status = statSync(path);
  } catch (thrown) {
    if (isSystemError(thrown, 'ENOENT')) {
      fail(`certificate present, but not private key file "${path}"`, { cause: thrown });
    }
    return fail(fileError('stat private key file', path, thrown).message, { cause: thrown });
  }
  if (!status.isFile()) fail(`private key file "${path}" is not a regular file`);
  const forbidden = status.uid === 0 ? 0o037 : 0o077;
  if ((status.mode & forbidden) !== 0) {
    fail(`private key file "${path}" has group or world access`, {
      hint:
        'file must have permissions u=rw (0600) or less if owned by the current user, ' +
        'or permissions u=rw,g=r (0640) or less if owned by root',
    });
  }
}

/**
 * The certificate has to name `host`: an address among the addresses of its subjectAltName, a name among the
 * names; "*." stands for one label; where it has none of that kind, the common name counts, for addresses too.
 */
function checkServerName(host: string, certificate: X509Certificate): Error | undefined {
  const wildcards = { partialWildcards: false, multiLabelWildcards: false };
  const alternatives = certificate.subjectAltName ?? '';
  const matches =
    isIP(host) === 0
      ? certificate.checkHost(host, { subject: 'default', ...wildcards })
      : (certificate.checkIP(host) ??
        (alternatives.includes('IP Address:')
          ? undefined
          : certificate.checkHost(host, { subject: 'always', wildcards: false })));
  if (matches !== undefined) return undefined;
  const commonName = /^CN=(.*)$/m.exec(certificate.subject)?.[1];
  const name = alternatives === '' ? (commonName ?? certificate.subject) : alternatives;
  return new ConvoyError(
    'connection_failed',
    `server certificate for "${name}" does not match host name "${host}"`,
  );
}
