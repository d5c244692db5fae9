/*
 * What pg_authid says about the role that a client wants to be. Asked once a login, by authentication.ts.
 * Rules: get_role_password (src/backend/libpq/crypt.c) and InitializeSessionUserId (src/backend/utils/init/miscinit.c).
 */
import { parseScramVerifier, type ScramVerifier } from './scram.js';
import type { ServerAccess } from './server-access.js';

/** A role as far as a login needs it. */
export interface LoginRole {
  readonly name: string;
  readonly mayLogIn: boolean;
  readonly isSuperuser: boolean;
  readonly mayReplicate: boolean;
  readonly password: ScramVerifier | undefined;
  /** Why no password of this role can be right; for the log, not for the client. */
  readonly unusable: string | undefined;
}

const ROLE = `
  SELECT rolname, rolcanlogin::text, rolsuper::text, rolreplication::text, rolpassword,
    coalesce(rolvaliduntil < pg_catalog.now(), false)::text
  FROM pg_catalog.pg_authid WHERE rolname = $1::name`;

/**
 * The role of this name, cut to 63 bytes as PostgreSQL cuts it; undefined where there is none.
 *
 * @throws ConvoyError where the server cannot be asked
 */
export async function findRole(access: ServerAccess, name: string): Promise<LoginRole | undefined> {
  const [row] = await access.query(ROLE, [name]);
  if (row === undefined) return undefined;
  const [storedName, canLogIn, superuser, replication, password, expired] = row;
  const verifier = parseScramVerifier(password ?? '');
  return {
    name: storedName ?? name,
    mayLogIn: canLogIn === 'true',
    isSuperuser: superuser === 'true',
    mayReplicate: superuser === 'true' || replication === 'true',
    password: verifier,
    unusable: whyUnusable(password ?? undefined, verifier, expired === 'true'),
  };
}

function whyUnusable(
  password: string | undefined,
  verifier: ScramVerifier | undefined,
  isExpired: boolean,
): string | undefined {
  if (password === undefined) return 'it has no password';
  if (verifier === undefined) return 'its password is not stored for SCRAM-SHA-256';
  return isExpired ? 'its password has expired' : undefined;
}
