/*
 * One client of `serve`, from its first byte to its last: login, then one command after the other, then the end, with
 * whatever it has running on the server ended as well. Made by session-host.ts for each socket.
 */
import { randomBytes, timingSafeEqual } from 'node:crypto';
import type { Socket } from 'node:net';
import type { ConvoyError } from '../errors.js';
import { errorResponse } from '../wire/backend-messages.js';
import type { CommandEnvironment } from './command-context.js';
import { CommandLoop } from './command-loop.js';
import { errorFields } from './error-fields.js';
import { FAREWELL_MS, logIn, type LoggedInClient, type LoginEnvironment } from './login.js';
import { printable } from './server-log.js';

export type SessionEnvironment = CommandEnvironment & LoginEnvironment;

/** TCP notices within minutes that the other machine is gone. */
const KEEPALIVE_IDLE_MS = 60_000;

export class Session {
  /** Names the session in CancelRequests only; no process has this number. */
  readonly processId = (randomBytes(4).readUInt32BE() >>> 1) | 1;
  readonly #secretKey = randomBytes(4);
  readonly #peer: string;
  readonly #admit: () => Promise<boolean>;
  readonly #environment: SessionEnvironment;
  readonly #ended = new AbortController();
  #commands: CommandLoop | undefined;

  /** @param admit asked once the client has logged in: is there a place for its session? */
  constructor(peer: string, admit: () => Promise<boolean>, environment: SessionEnvironment) {
    this.#peer = peer;
    this.#admit = admit;
    this.#environment = environment;
  }

  /** Talks to the client until one of the two ends it, and closes the socket; never rejects. */
  async run(socket: Socket): Promise<void> {
    socket.setNoDelay(true);
    socket.setKeepAlive(true, KEEPALIVE_IDLE_MS);
    // whoever reads or writes notices the loss; without a listener it would end the process
    socket.on('error', () => {});
    const arriving = {
      socket,
      peer: this.#peer,
      admit: this.#admit,
      processId: this.processId,
      secretKey: this.#secretKey,
    };
    const client = await logIn(arriving, this.#environment, this.#ended.signal);
    if (client !== undefined) await this.#serve(client);
    socket.destroy();
  }

  /** Stops the command that runs, if the key is right; a wrong or late request does nothing. */
  cancel(secretKey: Uint8Array): void {
    if (secretKey.length !== this.#secretKey.length || !timingSafeEqual(secretKey, this.#secretKey)) return;
    this.#commands?.cancel();
  }

  /** Ends the session, whatever it does, and tells the client why. */
  terminate(reason: ConvoyError): void {
    this.#ended.abort(reason);
  }

  async #serve(client: LoggedInClient): Promise<void> {
    const { channel } = client;
    this.#commands = new CommandLoop(client, this.#environment, this.#ended.signal);
    const reason = await this.#commands.run();
    if (channel.gone.aborted || reason === undefined) {
      this.#environment.log('DEBUG', `disconnection: user=${client.role.name} (${this.#peer})`);
    } else {
      this.#environment.log('FATAL', `${printable(reason.message)} (${this.#peer})`);
      // the walsender has said itself why it ended, or has not been able to
      if (reason.code !== 'connection_lost') channel.send(errorResponse(errorFields(reason, 'FATAL')));
    }
    await channel.end(FAREWELL_MS);
  }
}
