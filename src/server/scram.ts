/*
 * The server's side of SCRAM-SHA-256, without channel binding: pure calculation on what authentication.ts receives
 * and sends. A verifier is what PostgreSQL keeps in pg_authid.rolpassword.
 * Rules: RFC 5802 and 7677; PostgreSQL's src/backend/libpq/auth-scram.c, whose messages these are.
 */
import { createHash, createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import { ConvoyError } from '../errors.js';

export const SCRAM_MECHANISM = 'SCRAM-SHA-256';

/** SCRAM_SHA_256_DEFAULT_ITERATIONS; servers from 16 on have the setting scram_iterations. */
export const DEFAULT_SCRAM_ITERATIONS = 4096;

/** SCRAM_DEFAULT_SALT_LEN and SCRAM_RAW_NONCE_LEN. */
const SALT_BYTES = 16;
const NONCE_BYTES = 18;
const KEY_BYTES = 32;

export interface ScramVerifier {
  readonly iterations: number;
  readonly salt: Buffer;
  readonly storedKey: Buffer;
  readonly serverKey: Buffer;
}

const VERIFIER =
  /^SCRAM-SHA-256\$(\d{1,10}):([A-Za-z0-9+/]+={0,2})\$([A-Za-z0-9+/]{43}=):([A-Za-z0-9+/]{43}=)$/;

/** `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`; undefined for a password of another kind. */
export function parseScramVerifier(text: string): ScramVerifier | undefined {
  const [, iterations, salt, storedKey, serverKey] = VERIFIER.exec(text) ?? [];
  if (iterations === undefined || Number(iterations) < 1) return undefined;
  if (salt === undefined || storedKey === undefined || serverKey === undefined) return undefined;
  return {
    iterations: Number(iterations),
    salt: Buffer.from(salt, 'base64'),
    storedKey: Buffer.from(storedKey, 'base64'),
    serverKey: Buffer.from(serverKey, 'base64'),
  };
}

/**
 * A verifier that no password matches, for a role that cannot log in. Its salt is the same at every try, as a real
 * role's is, so that nobody learns which roles exist.
 *
 * @param secret random, the same in all processes of one `serve`
 */
export function mockVerifier(secret: Uint8Array, role: string, iterations: number): ScramVerifier {
  return {
    iterations,
    salt: createHmac('sha256', secret).update(role).digest().subarray(0, SALT_BYTES),
    storedKey: randomBytes(KEY_BYTES),
    serverKey: randomBytes(KEY_BYTES),
  };
}

// gs2-header "n,," or "y,,", then "n=user,r=nonce" and extensions that nobody knows.
const CLIENT_FIRST = /^((n|y|p=[^,]*),([^,]*),)(n=[^,]*,r=([\x21-\x2b\x2d-\x7e]+)(?:,.*)?)$/s;
const CLIENT_FINAL = /^(c=([A-Za-z0-9+/=]+),r=([\x21-\x2b\x2d-\x7e]+)(?:,[^p].*?)?),p=([A-Za-z0-9+/]{43}=)$/s;

/** One exchange: first(), then final(), in this order and once each. */
export class ScramExchange {
  readonly #verifier: ScramVerifier;
  #gs2Header = '';
  #clientFirstBare = '';
  #serverFirst = '';
  #nonce = '';

  constructor(verifier: ScramVerifier) {
    this.#verifier = verifier;
  }

  /**
   * The server-first-message for a client-first-message. The user name in it is ignored, as PostgreSQL does: the one
   * of the startup packet holds.
   *
   * @throws ConvoyError 08P01 for a malformed message, 0A000 for what is not supported
   */
  first(clientFirst: string): string {
    const [, gs2Header, binding, authzid, bare, clientNonce] = CLIENT_FIRST.exec(clientFirst) ?? [];
    if (gs2Header === undefined || bare === undefined || clientNonce === undefined) throw malformed();
    if (binding?.startsWith('p=') === true) {
      throw malformed('The client selected SCRAM-SHA-256 without channel binding, but uses channel binding.');
    }
    if (authzid !== '') {
      const message = 'client uses authorization identity, but it is not supported';
      throw new ConvoyError('untrusted_peer', message, { sqlState: '0A000' });
    }
    this.#gs2Header = gs2Header;
    this.#clientFirstBare = bare;
    this.#nonce = clientNonce + randomBytes(NONCE_BYTES).toString('base64');
    const { salt, iterations } = this.#verifier;
    this.#serverFirst = `r=${this.#nonce},s=${salt.toString('base64')},i=${iterations}`;
    return this.#serverFirst;
  }

  /**
   * The server-final-message for a client-final-message, or undefined where its proof is wrong.
   *
   * @throws ConvoyError 08P01 for a malformed message
   */
  final(clientFinal: string): string | undefined {
    const [, withoutProof, binding, nonce, proof] = CLIENT_FINAL.exec(clientFinal) ?? [];
    if (withoutProof === undefined || binding === undefined || proof === undefined) throw malformed();
    if (binding !== Buffer.from(this.#gs2Header).toString('base64')) {
      throw malformed('The channel binding attribute of the final message does not fit the first one.');
    }
    if (nonce !== this.#nonce) throw malformed('Nonce does not match.');

    const authMessage = `${this.#clientFirstBare},${this.#serverFirst},${withoutProof}`;
    const { storedKey, serverKey } = this.#verifier;
    const clientSignature = hmac(storedKey, authMessage);
    const clientKey = Buffer.from(proof, 'base64').map((byte, index) => byte ^ (clientSignature[index] ?? 0));
    if (!timingSafeEqual(createHash('sha256').update(clientKey).digest(), storedKey)) return undefined;
    return `v=${hmac(serverKey, authMessage).toString('base64')}`;
  }
}

function hmac(key: Uint8Array, text: string): Buffer {
  return createHmac('sha256', key).update(text).digest();
}

function malformed(detail?: string): ConvoyError {
  const message = detail === undefined ? 'malformed SCRAM message' : `malformed SCRAM message (${detail})`;
  return new ConvoyError('untrusted_peer', message, { sqlState: '08P01' });
}
