/*
 * A client's way in, all of it within one time limit: encryption, startup packet, password, and the greeting up to the
 * first ReadyForQuery. Called by session.ts.
 */
import type { Socket } from 'node:net';
import type { SecureContext } from 'node:tls';
import { asConvoyError, ConvoyError } from '../errors.js';
import {
  backendKeyData,
  errorResponse,
  negotiateProtocolVersion,
  parameterStatus,
  readyForQuery,
} from '../wire/backend-messages.js';
import {
  POSTMASTER_START_PARAMETER,
  SYSTEM_IDENTIFIER_PARAMETER,
} from '../replication/session-parameters.js';
import { authenticate } from './authentication.js';
import { ClientChannel, endStream } from './client-channel.js';
import { errorFields } from './error-fields.js';
import { negotiate } from './negotiation.js';
import type { LoginRole } from './role-directory.js';
import type { ServerAccess } from './server-access.js';
import { printable, type ServerLog } from './server-log.js';
import { readStartup, type Startup } from './startup.js';

export interface LoginEnvironment {
  readonly access: ServerAccess;
  readonly secureContext: SecureContext | undefined;
  readonly mockSecret: Uint8Array;
  readonly loginTimeoutMs: number;
  readonly log: ServerLog;
  /** For a CancelRequest: its session may live in another process. */
  readonly onCancelRequest: (processId: number, secretKey: Uint8Array) => void;
}

export interface ArrivingClient {
  readonly socket: Socket;
  /** Address and port, for the log. */
  readonly peer: string;
  /** Is there a place for its session? */
  readonly admit: () => Promise<boolean>;
  /** What a CancelRequest for this session must name. */
  readonly processId: number;
  readonly secretKey: Buffer;
}

export interface LoggedInClient {
  readonly channel: ClientChannel;
  readonly role: LoginRole;
  readonly startup: Startup;
}

/** For the first packet; a client that means it sends it at once. */
const FIRST_PACKET_LIMIT_MS = 10_000;

/** For the last message to leave. */
export const FAREWELL_MS = 2000;

/**
 * The client once it is in, or undefined where it does not get in, has been told why, and its connection is closed.
 *
 * @param ended aborted when the session has to end, with the reason for the client
 */
export async function logIn(
  client: ArrivingClient,
  environment: LoginEnvironment,
  ended: AbortSignal,
): Promise<LoggedInClient | undefined> {
  const attempt = new LoginAttempt(client, environment);
  const limit = new Promise<never>((_resolve, reject) => {
    const timer = setTimeout(() => reject(tooSlow()), environment.loginTimeoutMs);
    const silent = setTimeout(() => {
      if (!attempt.hasSpoken) reject(tooSlow());
    }, FIRST_PACKET_LIMIT_MS);
    attempt.onSettled = () => {
      clearTimeout(timer);
      clearTimeout(silent);
    };
    ended.addEventListener('abort', () => reject(asConvoyError(ended.reason, 'cancelled')), { once: true });
  });
  try {
    return await Promise.race([attempt.run(), limit]);
  } catch (thrown) {
    await attempt.refuse(asConvoyError(thrown, 'serve_refused'));
    return undefined;
  } finally {
    attempt.onSettled();
  }
}

class LoginAttempt {
  onSettled: () => void = () => {};
  /** Its startup packet has come. */
  hasSpoken = false;
  readonly #client: ArrivingClient;
  readonly #environment: LoginEnvironment;
  /** Where answers go; changes when TLS begins. */
  #stream: Socket;

  constructor(client: ArrivingClient, environment: LoginEnvironment) {
    this.#client = client;
    this.#environment = environment;
    this.#stream = client.socket;
  }

  async run(): Promise<LoggedInClient | undefined> {
    const { socket, admit } = this.#client;
    const { secureContext, onCancelRequest } = this.#environment;
    const { packet } = await negotiate(socket, secureContext, (stream) => (this.#stream = stream));
    this.hasSpoken = true;
    if (packet.kind === 'cancel_request') {
      onCancelRequest(packet.processId, packet.secretKey);
      this.#stream.destroy();
      return undefined;
    }
    const startup = readStartup(packet);
    const channel = new ClientChannel(this.#stream);
    if (startup.needsNegotiation) channel.send(negotiateProtocolVersion(0, startup.unknownOptions));
    const role = await authenticate(channel, startup.user, { ...this.#environment, peer: this.#client.peer });
    if (!(await admit())) throw tooManyClients();
    await this.#greet(channel, role, startup);
    return { channel, role, startup };
  }

  /** Tells the client why it may not in, unless it has said nothing itself, and closes. */
  async refuse(reason: ConvoyError): Promise<void> {
    const { log } = this.#environment;
    // a wrong password has been logged, with more than the client is told
    const isOrdinary =
      reason.code === 'connection_lost' || reason.code === 'cancelled' || reason.sqlState === '28P01';
    log(isOrdinary ? 'DEBUG' : 'LOG', `${printable(reason.message)} (${this.#client.peer})`);
    const stream = this.#stream;
    if (this.hasSpoken || reason.code === 'untrusted_peer') {
      stream.write(errorResponse(errorFields(reason, 'FATAL')));
      await endStream(stream, FAREWELL_MS);
    }
    stream.destroy();
  }

  async #greet(channel: ClientChannel, role: LoginRole, startup: Startup): Promise<void> {
    const { access, log } = this.#environment;
    const { processId, secretKey, peer } = this.#client;
    const server = await access.shared();
    const { systemIdentifier, postmasterStart } = await access.identity();
    const parameters = new Map(server.parameters)
      .set('session_authorization', role.name)
      .set('is_superuser', role.isSuperuser ? 'on' : 'off')
      .set('application_name', startup.applicationName)
      .set(SYSTEM_IDENTIFIER_PARAMETER, systemIdentifier)
      .set(POSTMASTER_START_PARAMETER, postmasterStart);
    for (const [name, value] of parameters) channel.send(parameterStatus(name, value));
    channel.send(backendKeyData(processId, secretKey.readInt32BE()), readyForQuery());
    channel.allowCommands();
    log(
      'DEBUG',
      `replication connection authorized: user=${role.name} application_name=${printable(startup.applicationName)} (${peer})`,
    );
  }
}

export function tooManyClients(): ConvoyError {
  return new ConvoyError('serve_refused', 'sorry, too many clients already', { sqlState: '53300' });
}

function tooSlow(): ConvoyError {
  return new ConvoyError('cancelled', 'canceling authentication due to timeout', { sqlState: '57014' });
}
