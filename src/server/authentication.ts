/*
 * Logs a client in with SCRAM-SHA-256 against the server's own verifiers. Called by session.ts after the startup
 * packet. Who may not in, learns no more than from PostgreSQL: unknown role, wrong password, none, expired and MD5
 * look the same from outside; the log has the reason.
 * Rules: src/backend/libpq/auth.c, auth-sasl.c and InitPostgres (src/backend/utils/init/postinit.c).
 */
import { ConvoyError } from '../errors.js';
import {
  authenticationOk,
  authenticationSasl,
  authenticationSaslContinue,
  authenticationSaslFinal,
} from '../wire/backend-messages.js';
import { decodeSaslInitialResponse, decodeSaslResponse } from '../wire/frontend-messages.js';
import type { ClientChannel } from './client-channel.js';
import { findRole, type LoginRole } from './role-directory.js';
import { DEFAULT_SCRAM_ITERATIONS, mockVerifier, SCRAM_MECHANISM, ScramExchange } from './scram.js';
import type { ServerAccess } from './server-access.js';
import { printable, type ServerLog } from './server-log.js';

const SASL_RESPONSE = 0x70;

export interface AuthenticationContext {
  readonly access: ServerAccess;
  readonly mockSecret: Uint8Array;
  readonly log: ServerLog;
  /** Address and port, for the log. */
  readonly peer: string;
}

/**
 * The role that the client has proved to be, with AuthenticationOk sent.
 *
 * @throws ConvoyError with the message and SQLSTATE for the client, which ends the session
 */
export async function authenticate(
  channel: ClientChannel,
  user: string,
  { access, mockSecret, log, peer }: AuthenticationContext,
): Promise<LoginRole> {
  const role = await findRole(access, user).catch((error: unknown) => {
    const reason = error instanceof Error ? error.message : String(error);
    log('ERROR', `could not look up role "${printable(user)}": ${reason}`);
    throw new ConvoyError(
      'connection_failed',
      'the server behind pgconvoy serve cannot be asked for the role',
      {
        sqlState: '57P03',
      },
    );
  });
  const unusable = role === undefined ? 'the role does not exist' : role.unusable;
  const verifier =
    unusable === undefined && role?.password !== undefined
      ? role.password
      : mockVerifier(mockSecret, user, await usualIterations(access));

  channel.send(authenticationSasl([SCRAM_MECHANISM]));
  const exchange = new ScramExchange(verifier);
  const initial = decodeSaslInitialResponse(await saslMessage(channel));
  if (initial.mechanism !== SCRAM_MECHANISM) {
    const message = 'client selected an invalid SASL authentication mechanism';
    throw new ConvoyError('untrusted_peer', message, { sqlState: '08P01' });
  }
  channel.send(authenticationSaslContinue(exchange.first(initial.data)));
  const final = exchange.final(decodeSaslResponse(await saslMessage(channel)));
  if (final === undefined || unusable !== undefined || role === undefined) {
    const reason = unusable ?? 'the password is wrong';
    log('LOG', `password authentication failed for user "${printable(user)}": ${reason} (${peer})`);
    throw new ConvoyError('serve_refused', `password authentication failed for user "${user}"`, {
      sqlState: '28P01',
    });
  }
  channel.send(authenticationSaslFinal(final));
  channel.send(authenticationOk());
  assertMayReplicate(role);
  return role;
}

function assertMayReplicate(role: LoginRole): void {
  if (!role.mayLogIn) {
    const message = `role "${role.name}" is not permitted to log in`;
    throw new ConvoyError('serve_refused', message, { sqlState: '28000' });
  }
  if (!role.mayReplicate) {
    const message = 'must be superuser or replication role to start walsender';
    throw new ConvoyError('serve_refused', message, { sqlState: '42501' });
  }
}

/** What a role that exists most likely has, so that one that does not exist looks the same. */
async function usualIterations(access: ServerAccess): Promise<number> {
  const connection = await access.shared();
  return Number(connection.parameters.get('scram_iterations') ?? DEFAULT_SCRAM_ITERATIONS);
}

async function saslMessage(channel: ClientChannel): Promise<Buffer> {
  const { type, frame } = await channel.receive();
  if (type === SASL_RESPONSE) return frame;
  const message = `expected SASL response, got message type ${type}`;
  throw new ConvoyError('untrusted_peer', message, { sqlState: '08P01' });
}
